import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from levibot_core.errors import BundleError, HomeNotWritableError, MissingFeatureError, UnknownSymbolError
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import MANIFEST, BundleIdentity, ModelBundle
from levibot_core.models.calibration import IdentityCalibrator, IsotonicCalibrator, PlattCalibrator
from levibot_core.models.candidate import CalibratedCandidate, Candidate

COLUMNS = 4
finite = st.floats(-10, 10, allow_nan=False)
calibrators = st.one_of(
    st.just(IdentityCalibrator()),
    st.builds(PlattCalibrator, st.floats(0, 50), st.floats(-5, 5)),
    st.just(IsotonicCalibrator((0.1, 0.4, 0.7), (0.2, 0.5, 0.9))),
)


@pytest.fixture
def folder(calibrated: CalibratedCandidate, tmp_path: Path) -> Path:
    """A saved bundle."""
    calibrated.bundle.save(tmp_path / "bundle")
    return tmp_path / "bundle"


def rewrite_manifest(folder: Path, **changes: object) -> None:
    """Change the manifest and give it the checksum that belongs to the change."""
    content = json.loads((folder / MANIFEST).read_text())
    content.pop("checksum")
    content |= changes
    content["checksum"] = hashlib.sha256(canonical(content).encode()).hexdigest()
    (folder / MANIFEST).write_text(canonical(content))


def canonical(content: dict[str, object]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(matrix=arrays(np.float64, (7, COLUMNS), elements=finite), calibrator=calibrators)
def test_a_saved_bundle_predicts_the_same_bits(
    candidate: Candidate, tmp_path: Path, matrix: np.ndarray, calibrator: PlattCalibrator
) -> None:
    bundle = ModelBundle.build(candidate.identity, "lightgbm", candidate.predictor_files, calibrator)
    bundle.save(tmp_path / "bundle")
    loaded = ModelBundle.load(tmp_path / "bundle")
    assert loaded.manifest == bundle.manifest
    assert loaded.predict(matrix).tobytes() == bundle.predict(matrix).tobytes()
    assert loaded.predict_raw(matrix).tobytes() == bundle.predict_raw(matrix).tobytes()
    assert loaded.predict(matrix).tobytes() == loaded.calibrate(loaded.predict_raw(matrix)).tobytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_altered_byte_anywhere_is_refused(folder: Path, data: st.DataObject) -> None:
    path = folder / data.draw(st.sampled_from(sorted(entry.name for entry in folder.iterdir())))
    original = path.read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    altered = bytearray(original)
    altered[place] ^= data.draw(st.integers(1, 255))
    try:
        path.write_bytes(bytes(altered))
        with pytest.raises(BundleError):
            ModelBundle.load(folder)
    finally:
        path.write_bytes(original)
    ModelBundle.load(folder)


@pytest.mark.parametrize("name", ["manifest.json", "booster.txt", "calibrator.json"])
def test_a_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        ModelBundle.load(folder)


def test_a_file_that_is_not_part_of_it_is_refused(folder: Path) -> None:
    (folder / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(BundleError, match=r"model\.pkl is not part of it"):
        ModelBundle.load(folder)


def test_a_file_that_the_manifest_lists_but_the_family_does_not_know_is_refused(folder: Path) -> None:
    (folder / "extra.json").write_text("{}")
    listed = json.loads((folder / MANIFEST).read_text())["files"]
    rewrite_manifest(folder, files={**listed, "extra.json": hashlib.sha256(b"{}").hexdigest()})
    with pytest.raises(BundleError, match=r"extra\.json is not part of it"):
        ModelBundle.load(folder)


def test_links_and_folders_inside_are_refused(folder: Path) -> None:
    (folder / "calibrator.json").rename(folder.parent / "elsewhere.json")
    (folder / "calibrator.json").symlink_to(folder.parent / "elsewhere.json")
    with pytest.raises(BundleError, match="plain files"):
        ModelBundle.load(folder)
    (folder / "calibrator.json").unlink()
    (folder / "calibrator.json").mkdir()
    with pytest.raises(BundleError, match="plain files"):
        ModelBundle.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "levibot-bundle/99"}, "levibot-bundle/99"),
        ({"format": None}, "format"),
        ({"family": "pickle"}, "family"),
        ({"family": "base_rate"}, r"base_rate\.json is missing"),
        ({"calibration": "isotonic"}, "calibration"),
        ({"features": ["noise", "momentum", "volatility"]}, "trained on the columns momentum"),
        ({"horizon_bars": 0}, "horizon_bars"),
        ({"surprise": 1}, "surprise"),
        ({"files": {}}, "not part of it"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    folder: Path, changes: dict[str, object], message: str, calibrated: CalibratedCandidate
) -> None:
    if changes.get("calibration") == calibrated.bundle.manifest.calibration:
        changes = {"calibration": "platt"}
    rewrite_manifest(folder, **changes)
    with pytest.raises(BundleError, match=message):
        ModelBundle.load(folder)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{", b"\xff\xfe", b'{"format": NaN}', b"[" * 100_000])
def test_a_manifest_that_is_not_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        ModelBundle.load(folder)


def test_files_with_the_right_hash_but_the_wrong_content_are_refused(folder: Path) -> None:
    listed = json.loads((folder / MANIFEST).read_text())["files"]
    for name, content in (("booster.txt", b"tree\n"), ("calibrator.json", b"{}"), ("booster.txt", b"\xff")):
        original = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        rewrite_manifest(folder, files={**listed, name: hashlib.sha256(content).hexdigest()})
        with pytest.raises(BundleError):
            ModelBundle.load(folder)
        (folder / name).write_bytes(original)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        ModelBundle.load(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        ModelBundle.load(tmp_path)


def test_saving_replaces_the_bundle_that_stood_there(folder: Path, identity: BundleIdentity) -> None:
    base_rate_bundle(identity).save(folder)
    assert ModelBundle.load(folder).manifest.family == "base_rate"
    assert sorted(entry.name for entry in folder.iterdir()) == ["base_rate.json", "calibrator.json", "manifest.json"]


def test_saving_where_nothing_can_be_written_says_so(calibrated: CalibratedCandidate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeNotWritableError):
        calibrated.bundle.save(tmp_path / "file" / "bundle")


def test_a_save_that_fails_at_the_last_step_leaves_the_old_bundle(
    folder: Path, identity: BundleIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, calls = Path.rename, []

    def fail_second(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_second)
    with pytest.raises(HomeNotWritableError):
        base_rate_bundle(identity).save(folder)
    assert ModelBundle.load(folder).manifest.family == "lightgbm"
    assert [entry.name for entry in folder.parent.iterdir()] == ["bundle"]


def test_a_row_is_built_in_manifest_order_with_the_symbol_last(calibrated: CalibratedCandidate) -> None:
    values = {"noise": 3.0, "momentum": 1.0, "volatility": 2.0, "unused": 9.0}
    assert calibrated.bundle.matrix_row("ETH/USDT", values).tolist() == [[1.0, 2.0, 3.0, 1.0]]
    columns = {name: np.array([value, -value]) for name, value in values.items()}
    assert calibrated.bundle.matrix(["ETH/USDT", "BTC/USDT"], columns).tolist() == [
        [1.0, 2.0, 3.0, 1.0],
        [-1.0, -2.0, -3.0, 0.0],
    ]


def test_missing_features_are_refused_by_name_and_never_replaced(calibrated: CalibratedCandidate) -> None:
    with pytest.raises(MissingFeatureError, match="volatility, noise"):
        calibrated.bundle.matrix_row("BTC/USDT", {"momentum": 1.0, "noise": float("nan")})
    with pytest.raises(MissingFeatureError, match="volatility, noise"):
        calibrated.bundle.matrix(["BTC/USDT"], {"momentum": np.ones(1), "noise": np.array([np.inf])})
    with pytest.raises(MissingFeatureError):
        calibrated.bundle.predict(np.full((1, COLUMNS), np.nan))


def test_unknown_symbols_are_refused_by_name(calibrated: CalibratedCandidate) -> None:
    values = {"momentum": 1.0, "volatility": 1.0, "noise": 1.0}
    with pytest.raises(UnknownSymbolError, match="DOGE/USDT"):
        calibrated.bundle.matrix_row("DOGE/USDT", values)
    with pytest.raises(UnknownSymbolError, match="DOGE/USDT"):
        calibrated.bundle.matrix(["DOGE/USDT"], {name: np.ones(1) for name in values})


def test_threads_share_a_bundle(calibrated: CalibratedCandidate) -> None:
    matrix = np.random.default_rng(0).normal(size=(64, COLUMNS))
    matrix[:, -1] = 0.0
    expected = calibrated.bundle.predict(matrix)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: calibrated.bundle.predict(matrix[row : row + 1])[0], list(range(64)) * 4))
    assert answers == expected.tolist() * 4


def test_importing_the_format_loads_no_training_or_data_frame_library() -> None:
    script = (
        "import sys, levibot_core.models.bundle\n"
        "heavy = {'polars', 'pandas', 'sklearn', 'scipy', 'lightgbm', 'optuna', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
