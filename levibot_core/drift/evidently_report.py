"""The drift report people read: Evidently's HTML over a sample of both sides, and its findings as plain numbers.

Evidently is imported when a report is written: it takes seconds and brings pandas. What decides on a retrain is
`levibot_core.drift.psi` over all rows.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from levibot_core.drift.psi import WARNING_LEVEL
from levibot_core.stores.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

_METHOD = "psi"


def write_evidently_report(
    reference: pl.DataFrame, current: pl.DataFrame, features: Sequence[str], path: Path, rows: int, seed: int
) -> dict[str, Any]:
    """Write Evidently's data drift report as self-contained HTML.

    Args:
        reference: Rows the model was trained on, with the feature columns.
        current: Rows of today, with the feature columns.
        features: Columns to compare.
        path: Where the HTML goes.
        rows: Rows per side to look at; more are sampled down to it.
        seed: Of the sampling.

    Returns:
        `drifted_columns` (count), `share` (of columns that drifted), `columns` (feature to Evidently's PSI) and
        `rows` (looked at: `reference` and `current`).

    Raises:
        HomeNotWritableError: the report cannot be written.
    """
    # A constant feature has no correlation with others, which Evidently computes all the same.
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        # Evidently 0.7 uses deprecated parts of numpy, litestar and others; they are its to replace.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

        definition = DataDefinition(numerical_columns=list(features))
        before, now = (_sample(side, features, rows, seed) for side in (reference, current))
        preset = DataDriftPreset(columns=list(features), method=_METHOD, threshold=WARNING_LEVEL)
        snapshot = Report([preset]).run(
            Dataset.from_pandas(now, data_definition=definition),
            Dataset.from_pandas(before, data_definition=definition),
        )
        write_atomically(path, lambda temporary: snapshot.save_html(str(temporary)))
        found = snapshot.dict()
    return {**_summary(found), "rows": {"reference": len(before), "current": len(now)}}


def _sample(side: pl.DataFrame, features: Sequence[str], rows: int, seed: int) -> "pd.DataFrame":
    chosen = side.select(features)
    if chosen.height > rows:
        chosen = chosen.sample(rows, seed=seed)
    return chosen.to_pandas()


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    """Evidently's findings as plain numbers; its own are numpy scalars inside a nested report."""
    counted = next(metric["value"] for metric in found["metrics"] if "count" in _mapping(metric["value"]))
    columns = {
        metric["config"]["column"]: float(metric["value"])
        for metric in found["metrics"]
        if "column" in metric["config"] and not _mapping(metric["value"])
    }
    return {"drifted_columns": int(counted["count"]), "share": float(counted["share"]), "columns": columns}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
