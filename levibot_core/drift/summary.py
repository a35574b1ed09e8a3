"""Drift of a whole feature set: the table per feature, and one level that automation can act on."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from levibot_core.drift.psi import DriftLevel, psi_table

# A week of any market differs from half a year in some feature; retraining answers a shift of many.
CRITICAL_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class DriftSummary:
    """Drift of one feature set.

    Attributes:
        level: `critical` when at least a quarter of the features are, `warning` when any is above `ok`, else `ok`.
        table: `feature`, `psi` and `level` of each feature, highest first.
    """

    level: DriftLevel
    table: pl.DataFrame

    def count(self, level: DriftLevel) -> int:
        """How many features are at that level."""
        return int((self.table["level"] == level).sum())


def summarise_drift(reference: pl.DataFrame, current: pl.DataFrame, features: Sequence[str]) -> DriftSummary:
    """Compare today's features with those a model was trained on.

    Raises:
        MissingFeatureError: a side lacks a feature column.
        DataQualityError: a side has no rows.
    """
    table = psi_table(reference, current, features)
    critical = (table["level"] == "critical").sum()
    if critical >= CRITICAL_SHARE * table.height:
        return DriftSummary("critical", table)
    return DriftSummary("warning" if (table["level"] != "ok").any() else "ok", table)
