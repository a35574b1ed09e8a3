"""What is handed on is whole: the code beside a model in MLflow, and the wheel with what its packages read."""

import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import BundleIdentity
from levibot_pipelines.packaging import copy_model_code, example_frame, model_requirements, model_signature

IDENTITY = BundleIdentity(
    model_name="levibot-5m-h3",
    timeframe="5m",
    horizon_bars=3,
    symbols=("BTC/USDT", "ETH/USDT"),
    feature_set="v1",
    features=("momentum", "volatility"),
    snapshot_id="none",
    source_kind="none",
    created_at=datetime(2025, 1, 5, tzinfo=UTC),
    seed=1,
)
READ = """
import sys
class OnlyTheRequirements:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"polars", "optuna", "sklearn", "yaml", "mlflow", "levibot_pipelines"}:
            raise ImportError(f"{name} is not among the model's requirements")
sys.meta_path.insert(0, OnlyTheRequirements())
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from levibot_core.models import bundle
assert bundle.__file__.startswith(sys.argv[1]), bundle.__file__
read = bundle.ModelBundle.load(Path(sys.argv[2]))
print(read.predict(read.matrix_row("ETH/USDT", {"momentum": 1.0, "volatility": 2.0})).tolist())
"""


def test_the_code_beside_a_model_reads_it_without_the_platform(tmp_path: Path) -> None:
    code = copy_model_code(tmp_path / "code")
    base_rate_bundle(IDENTITY, np.array([1, 1, 0])).save(tmp_path / "bundle")

    read = [sys.executable, "-I", "-c", READ, str(code.parent), str(tmp_path / "bundle")]
    answer = subprocess.run(read, capture_output=True, text=True, check=False)

    assert answer.stdout == "[0.6]\n", answer.stderr
    assert not list(code.rglob("tuning.py"))


@pytest.mark.parametrize(
    ("family", "library"), [("base_rate", None), ("lightgbm", "lightgbm"), ("xgboost", "xgboost-cpu")]
)
def test_a_model_names_its_own_packages_and_pins_them(family: str, library: str | None) -> None:
    requirements = [line.partition("==") for line in model_requirements(family)]
    assert [name for name, _, _ in requirements] == ["numpy", "pandas", "pydantic", *([library] if library else [])]
    assert all(version for _, _, version in requirements)


def test_an_example_is_of_real_rows_where_there_are_any() -> None:
    manifest = base_rate_bundle(IDENTITY).manifest
    rows = pl.DataFrame({"symbol": ["ETH/USDT"] * 9, "momentum": range(9), "volatility": [0.5] * 9, "label": [1] * 9})
    example = example_frame(manifest, rows)
    assert (
        list(example.columns) == model_signature(manifest).inputs.input_names() == ["momentum", "volatility", "symbol"]
    )
    assert example["momentum"].tolist() == [6, 7, 8]
    assert example_frame(manifest, None)["symbol"].tolist() == ["BTC/USDT", "ETH/USDT"]


def test_the_wheel_holds_every_file_that_its_packages_read(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    build = [
        sys.executable,
        "-m",
        "uv",
        "build",
        "--wheel",
        "--offline",
        "--quiet",
        "--out-dir",
        str(tmp_path),
        str(root),
    ]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    if "hatchling" in built.stderr:
        pytest.skip(f"The wheel cannot be built without a network here: {' '.join(built.stderr.split())[:200]}")
    assert built.returncode == 0, built.stderr
    packages = ("levibot_core", "levibot_pipelines", "levibot_serving")
    read = {
        path.relative_to(root).as_posix()
        for package in packages
        for path in (root / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".nbi", ".nbc")
    }
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        held = set(content.namelist())
    assert read - held == set()
    assert "levibot_serving/console/templates/console.html.j2" in held
