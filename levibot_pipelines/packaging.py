"""What MLflow stores of a model beside its bundle: the code that reads it, its packages, its signature, an example.

So `mlflow.pyfunc.load_model` works in an environment with those packages alone, where no platform is installed.
"""

import ast
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING

import polars as pl

import levibot_core
from levibot_core.models.bundle import BundleManifest
from levibot_core.models.families import FAMILIES

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

_ROOT = Path(levibot_core.__file__).resolve().parent
_ENTRANCE = "levibot_core.models.bundle"
_ALWAYS = ("numpy", "pandas", "pydantic")
_EXAMPLE_ROWS = 3


def model_requirements(family: str) -> list[str]:
    """The packages that a model of a family needs, pinned to the versions it was made with."""
    return [_pinned(name) for name in (*_ALWAYS, *FAMILIES[family].libraries)]


def model_signature(manifest: BundleManifest) -> "ModelSignature":
    """Input: a float64 column per feature, `symbol` and, for windows, `ts`. Output: the probability of the event."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    features = [ColSpec(DataType.double, name) for name in manifest.features]
    opened = [ColSpec(DataType.datetime, "ts")] if manifest.window > 1 else []
    return ModelSignature(
        inputs=Schema([*features, ColSpec(DataType.string, "symbol"), *opened]),
        outputs=Schema(
            [ColSpec(DataType.double, "prob_up" if manifest.triple_barrier is None else "prob_profit_first")]
        ),
    )


def example_frame(manifest: BundleManifest, rows: pl.DataFrame | None) -> "pd.DataFrame":
    """The last few of the rows as a model takes them; zeros in a home that has no rows yet.

    For a model that looks at a window these are bars of one symbol, enough for a few forecasts.
    """
    if rows is None:
        rows = pl.DataFrame({"symbol": manifest.symbols, **dict.fromkeys(manifest.features, 0.0)})
    if manifest.window > 1:
        own = rows.filter(pl.col("symbol") == rows["symbol"][-1]).sort("ts").tail(manifest.window + _EXAMPLE_ROWS - 1)
        ts = pl.col("ts").dt.replace_time_zone(None).cast(pl.Datetime("ns"))
        return own.select(*manifest.features, "symbol", ts).to_pandas()
    return rows.select(*manifest.features, "symbol").tail(_EXAMPLE_ROWS).to_pandas()


def copy_model_code(folder: Path) -> Path:
    """Copy the modules of the core that reading a bundle imports, as a package of their own; return its folder."""
    for module in _imported(_ENTRANCE, set()):
        source = _file_of(module)
        target = folder / source.relative_to(_ROOT.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        copyfile(source, target)
    return folder / _ROOT.name


def _imported(module: str, found: set[str]) -> set[str]:
    """A module of the core, the packages it lies in and, in turn, every module of the core that any of them imports.

    Imports inside functions count: a module that is imported late is still imported.
    """
    if module in found:
        return found
    found.add(module)
    parent, _, _ = module.rpartition(".")
    names = {parent} if parent else set()
    for node in ast.walk(ast.parse(_file_of(module).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == _ROOT.name:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    for name in sorted(names):
        if _file_of(name).exists():
            _imported(name, found)
    return found


def _file_of(module: str) -> Path:
    path = _ROOT.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _pinned(name: str) -> str:
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:  # Another build of the same library, such as `xgboost` for a GPU.
        return name
