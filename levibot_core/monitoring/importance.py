"""Importance over time: mean absolute SHAP value of every column, one registered version after another.

SHAP values are those of the model's own exact tree algorithm, in log-odds before calibration.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from levibot_core.errors import LakeCorruptionError
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.shap_values import ShapSample, shap_sample
from levibot_core.stores.files import write_atomically

_COLUMNS = pl.Schema(
    {
        "version": pl.Int64(),
        "feature": pl.String(),
        "mean_abs_shap": pl.Float64(),
        "share": pl.Float64(),
        "snapshot_id": pl.String(),
        "rows": pl.Int64(),
    }
)


def shap_importance(bundle: ModelBundle, rows: pl.DataFrame, version: int, sample: int) -> pl.DataFrame:
    """Mean absolute SHAP value of every column of the design matrix, highest first.

    Args:
        bundle: The model.
        rows: Rows that nothing was fitted on: symbol and the model's features.
        version: Its registered version.
        sample: Rows to look at, at most; evenly spaced ones are taken, so that the same rows give the same figures.

    Returns:
        version, feature (the features and `symbol_code`), mean_abs_shap (log-odds), share (of their sum, 0 to 1),
        snapshot_id and rows (looked at).

    Raises:
        UnknownSymbolError: the model does not know a row's symbol.
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
    """
    return importance_of(shap_sample(bundle, rows, sample), version, bundle.manifest.snapshot_id)


def importance_of(found: ShapSample, version: int, snapshot_id: str) -> pl.DataFrame:
    """The importance of every column in SHAP values that were sampled already; columns as `shap_importance`."""
    size = len(found.columns)
    return pl.DataFrame(
        {
            "version": [version] * size,
            "feature": found.columns,
            "mean_abs_shap": found.mean_absolute,
            "share": found.shares,
            "snapshot_id": [snapshot_id] * size,
            "rows": [len(found.values)] * size,
        },
        schema=_COLUMNS,
    ).sort("mean_abs_shap", "feature", descending=[True, False])


class ImportanceHistory:
    """The importance of every version so far, in one Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> pl.DataFrame:
        """Everything there is, sorted by version and falling importance; columns as `shap_importance`.

        Raises:
            LakeCorruptionError: the file cannot be read.
        """
        if not self.path.exists():
            return pl.DataFrame(schema=_COLUMNS)
        try:
            found = pl.read_parquet(io.BytesIO(self.path.read_bytes()))
            return found.select(_COLUMNS.keys()).cast(_COLUMNS)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise LakeCorruptionError(
                f"Expected {self.path} to be the history of importances, was unreadable "
                f"({str(error).splitlines()[0]}). Delete it: versions whose snapshot is still there are measured anew."
            ) from error

    def add(self, measured: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Keep the importances of more versions, replacing those of a version that is there, and return everything.

        Raises:
            LakeCorruptionError: what is there cannot be read; nothing is written.
            HomeNotWritableError: the file cannot be written; it is as it was.
        """
        before = self.read()
        if not measured:
            return before
        new = pl.concat(measured)
        kept = before.filter(~pl.col("version").is_in(new["version"].unique().to_list()))
        everything = pl.concat([kept, new]).sort("version", "mean_abs_shap", "feature", descending=[False, True, False])
        write_atomically(self.path, lambda path: everything.write_parquet(path, compression="zstd"))
        return everything
