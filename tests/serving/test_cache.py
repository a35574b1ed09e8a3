import os
from collections.abc import Callable
from pathlib import Path

import pytest

from levibot_core.errors import BundleError, HomeNotWritableError
from levibot_core.models.bundle import ModelBundle
from levibot_serving.cache import KEPT_MODELS, ModelCache
from levibot_serving.registry import ModelRecord


def record(version: int = 1) -> ModelRecord:
    return ModelRecord(
        name="levibot-5m-h12", version=version, created_ms=version, source="s", aliases=("champion",), tags={"a": "b"}
    )


def saves(bundle: ModelBundle, *places: str) -> Callable[[Path], None]:
    def download(folder: Path) -> None:
        for place in places:
            bundle.save(folder / place)
        (folder / "python_model.pkl").write_bytes(b"never read")

    return download


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path / "serving")


def test_what_was_remembered_is_found_again(cache: ModelCache, base_rate: ModelBundle) -> None:
    cache.add(record(), saves(base_rate, "artifacts/bundle"))
    cache.remember(record())
    found = cache.last_good()
    assert found is not None
    assert (found[0], found[1].manifest) == (record(), base_rate.manifest)


def test_a_new_cache_is_empty_and_makes_nothing(cache: ModelCache, tmp_path: Path) -> None:
    assert cache.last_good() is None
    assert cache.load(record()) is None
    assert list(tmp_path.iterdir()) == []


def test_nothing_but_the_bundle_reaches_the_disk(cache: ModelCache, base_rate: ModelBundle, tmp_path: Path) -> None:
    cache.add(record(), saves(base_rate, "artifacts/bundle"))
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"manifest.json", "base_rate.json", "calibrator.json"}


@pytest.mark.parametrize("places", [(), ("one", "two")])
def test_a_version_without_exactly_one_bundle_is_refused(
    cache: ModelCache, base_rate: ModelBundle, places: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=f"was {len(places)}"):
        cache.add(record(), saves(base_rate, *places))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_manifest_of_something_else_is_no_bundle(cache: ModelCache, base_rate: ModelBundle) -> None:
    def download(folder: Path) -> None:
        base_rate.save(folder / "bundle")
        (folder / "manifest.json").write_text("[1]")
        (folder / "other").mkdir()
        (folder / "other" / "manifest.json").write_text("{")

    assert cache.add(record(), download).manifest == base_rate.manifest


def test_the_same_version_of_another_registry_is_another_model(cache: ModelCache, base_rate: ModelBundle) -> None:
    cache.add(record(), saves(base_rate, "bundle"))
    assert cache.load(record().model_copy(update={"created_ms": 2})) is None


def test_an_unsound_copy_is_dropped_so_that_it_is_fetched_again(
    cache: ModelCache, base_rate: ModelBundle, tmp_path: Path
) -> None:
    cache.add(record(), saves(base_rate, "bundle"))
    folder = tmp_path / "serving" / "models" / record().key
    (folder / "base_rate.json").write_text('{"probability": 0.9}\n')
    assert cache.load(record()) is None
    assert not folder.exists()
    assert cache.add(record(), saves(base_rate, "bundle")).manifest == base_rate.manifest
    assert cache.load(record()) is not None


@pytest.mark.parametrize("altered", ["base_rate.json", "manifest.json", "calibrator.json", "pointer"])
def test_an_altered_cache_is_refused_and_says_so(
    cache: ModelCache, base_rate: ModelBundle, tmp_path: Path, altered: str
) -> None:
    cache.add(record(), saves(base_rate, "bundle"))
    cache.remember(record())
    root = tmp_path / "serving"
    path = root / "current.json" if altered == "pointer" else root / "models" / record().key / altered
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BundleError, match=r"is refused: .*Start the model registry"):
        cache.last_good()


def test_only_the_newest_models_are_kept(cache: ModelCache, base_rate: ModelBundle, tmp_path: Path) -> None:
    models = tmp_path / "serving" / "models"
    for version in range(1, KEPT_MODELS + 4):
        cache.add(record(version), saves(base_rate, "bundle"))
        os.utime(models / record(version).key, (version, version))
    abandoned = models / ".left-by-a-kill.tmp"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    in_use = models / ".being-fetched.tmp"
    in_use.mkdir()

    cache.remember(record(1))
    kept = {folder.name for folder in models.iterdir()}
    newest = range(5, KEPT_MODELS + 4)
    assert kept == {record(1).key, *(record(version).key for version in newest), in_use.name}


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path: Path, base_rate: ModelBundle) -> None:
    (tmp_path / "serving").write_text("a file where a folder should be")
    with pytest.raises(HomeNotWritableError, match="set LEVIBOT_HOME"):
        ModelCache(tmp_path / "serving").add(record(), saves(base_rate, "bundle"))
