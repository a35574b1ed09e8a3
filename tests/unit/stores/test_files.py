import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import HomeNotWritableError
from levibot_core.stores.files import sha256_of, write_atomically, write_json_atomically, write_text_atomically


def test_the_file_and_its_missing_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "with space" / "deeper" / "note.txt"

    write_text_atomically(path, "first\n")
    write_text_atomically(path, "zweite Fassung: ä\n")

    assert path.read_bytes() == "zweite Fassung: ä\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["note.txt"]


def test_json_is_sorted_indented_and_ends_with_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "pointer.json"

    write_json_atomically(path, {"b": 1, "a": [1.5, None]})

    assert path.read_text("utf-8") == '{\n  "a": [\n    1.5,\n    null\n  ],\n  "b": 1\n}\n'


def test_json_refuses_a_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomically(tmp_path / "pointer.json", {"auc": float("nan")})


def test_the_temporary_file_lies_beside_the_target_under_a_hidden_name(tmp_path: Path) -> None:
    seen: list[Path] = []

    write_atomically(tmp_path / "part.parquet", lambda temporary: seen.append(temporary))

    assert seen[0].parent == tmp_path
    assert seen[0].name.startswith(".part.parquet.")
    assert seen[0].name.endswith(".tmp")


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write_text_atomically(path, "old")

    def fail_half_way(temporary: Path) -> None:
        temporary.write_text("half")
        raise ValueError("defect in the writer")

    with pytest.raises(ValueError, match="defect in the writer"):
        write_atomically(path, fail_half_way)

    assert path.read_text("utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["part.parquet"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space is left"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only file system"),
        (pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os error 28)"), "no space"),
    ],
)
def test_a_refusal_of_the_operating_system_is_told_in_words(tmp_path: Path, error: Exception, words: str) -> None:
    path = tmp_path / "part.parquet"
    write_text_atomically(path, "old")

    def refuse(_: Path) -> None:
        raise error

    with pytest.raises(HomeNotWritableError, match=words):
        write_atomically(path, refuse)
    assert path.read_text("utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["part.parquet"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_polars_on_a_full_device_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(HomeNotWritableError, match="no space is left"):
        write_atomically(
            tmp_path / "part.parquet", lambda _: pl.DataFrame({"x": range(1000)}).write_parquet("/dev/full")
        )


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file")

    with pytest.raises(HomeNotWritableError, match=r"lake.*a file stands where a folder has to be"):
        write_text_atomically(tmp_path / "lake" / "part.parquet", "rows")


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "pointer.json"
    write_json_atomically(path, {"snapshot": 1})
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from levibot_core.stores.files import write_atomically\n"
        "def die(temporary):\n"
        "    temporary.write_text('{\"snap')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), die)\n"
    )

    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False)

    assert killed.returncode == -9
    assert json.loads(path.read_text("utf-8")) == {"snapshot": 1}
    left = [entry.name for entry in tmp_path.iterdir() if entry != path]
    assert all(name.startswith(".") and name.endswith(".tmp") for name in left)


def test_the_mode_of_a_new_file_is_what_the_umask_leaves(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        write_text_atomically(tmp_path / "note.txt", "text")
    finally:
        os.umask(umask)

    assert (tmp_path / "note.txt").stat().st_mode & 0o777 == 0o640


@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=1 << 16))
def test_the_hash_is_that_of_the_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("hash") / "file"
    path.write_bytes(content)

    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
