"""Drift over time: the population stability index of every feature in each window of a long stretch of features.

One window after another is compared with the same reference, so that a reader sees whether today is unusual or the
market was always like that. The index itself is in `levibot_core.drift.psi`.
"""

from collections.abc import Sequence

import polars as pl

from levibot_core.drift.psi import ReferenceBins, drift_level
from levibot_core.errors import DataQualityError
from levibot_core.schemas import TIMESTAMP

FEWEST_ROWS = 200
"""A window with fewer rows is left out: ten bins of a handful of rows say nothing."""

_COLUMNS = pl.Schema(
    {
        "window_start": TIMESTAMP,
        "window_end": TIMESTAMP,
        "rows": pl.Int64(),
        "feature": pl.String(),
        "psi": pl.Float64(),
        "level": pl.String(),
    }
)


def psi_history(
    reference: pl.DataFrame, rows: pl.DataFrame, features: Sequence[str], window_ms: int, windows: int
) -> pl.DataFrame:
    """The index of every feature in each of the newest windows.

    Args:
        reference: Rows the model was trained on, with the feature columns.
        rows: Feature rows of any stretch of time: known_at and the feature columns.
        features: Columns to compare.
        window_ms: Length of a window; windows are counted back from the newest `known_at`.
        windows: How many at most.

    Returns:
        window_start (exclusive), window_end (inclusive; both UTC), rows (in that window), feature, psi and level;
        sorted by window_end and feature.

    Raises:
        DataQualityError: the reference has no rows, or no window has `FEWEST_ROWS`.
    """
    decided = pl.col("known_at").dt.epoch("ms")
    newest = rows["known_at"].dt.epoch("ms").max()
    numbered = rows.select(
        pl.col(features), window=((pl.lit(newest, dtype=pl.Int64) - decided) // window_ms).cast(pl.Int64)
    ).filter(pl.col("window") < windows)
    bins = {name: ReferenceBins.of(reference[name].to_numpy()) for name in features}
    found: list[dict[str, object]] = []
    for (window,), inside in numbered.partition_by("window", as_dict=True).items():
        if inside.height < FEWEST_ROWS:
            continue
        end_ms = int(newest) - int(window) * window_ms  # type: ignore[arg-type]
        for name in features:
            psi = bins[name].index(inside[name].to_numpy())
            found.append(
                {
                    "window_start": end_ms - window_ms,
                    "window_end": end_ms,
                    "rows": inside.height,
                    "feature": name,
                    "psi": psi,
                    "level": drift_level(psi),
                }
            )
    if not found:
        raise DataQualityError(
            f"Expected a window with at least {FEWEST_ROWS} whole feature rows, was none in {rows.height} rows. "
            "Compute features for a longer period first."
        )
    times = pl.col("window_start", "window_end").cast(TIMESTAMP)
    return pl.DataFrame(found).with_columns(times).cast(_COLUMNS).sort("window_end", "feature")
