"""Two models' accounts on the same bars with the same rules: their figures, and what the difference of a day was.

Which of two models is to be traded is decided on new bars by `levibot_core.validation.sequential_verdict`, not here.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.backtest.candidate import ModelBacktest, backtest_model
from levibot_core.backtest.metrics import AccountMetrics, backtest_metrics, daily_returns
from levibot_core.backtest.simulation_parameters import LIVE_ACCOUNT, BacktestParameters
from levibot_core.errors import BundleError, SnapshotError
from levibot_core.models.block_bootstrap import BlockBootstrap
from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.snapshots import Snapshot

_FEWEST_DAYS: Final = 5
"""Of fewer, no interval is told."""


class AccountComparison(BaseModel):
    """One account against another; a difference above 0 is better than the other. Returns are fractions."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    other: str
    note: str = Field("", description="What has to be known to read it")
    account: AccountMetrics
    other_account: AccountMetrics
    days: int
    days_better: int
    days_worse: int
    mean_daily_difference: float
    lower_95: float | None = Field(description="Of the mean, days drawn in blocks; None with fewer than 5 days")
    upper_95: float | None
    correlation: float | None = Field(description="Of daily returns; None where one of them is flat")


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison and the two backtests it was made of."""

    comparison: AccountComparison
    backtest: ModelBacktest
    other: ModelBacktest


def compare_models(
    bundle: ModelBundle,
    other: ModelBundle,
    snapshot: Snapshot,
    rows: pl.DataFrame,
    names: tuple[str, str],
    funding: pl.DataFrame | None = None,
    parameters: BacktestParameters = LIVE_ACCOUNT,
) -> Compared:
    """Trade two models' forecasts of the same rows.

    Args:
        bundle: The one.
        other: The other.
        snapshot: Where the rows come from.
        rows: Rows that neither was fitted on, with the features of both; those of symbols that only one knows are
            left out.
        names: Both in words.
        funding: As `backtest_model`.
        parameters: Of both.

    Raises:
        BundleError: they forecast different events, or share no symbol.
        SnapshotError: there is no row.
        MissingFeatureError, DataQualityError: as `backtest_model`.
    """
    if bundle.manifest.label != other.manifest.label:
        raise BundleError(
            f"Expected two models of one event, was {bundle.manifest.label!r} and {other.manifest.label!r}. "
            "Compare versions of one model."
        )
    shared = sorted(set(bundle.manifest.symbols) & set(other.manifest.symbols))
    if not shared:
        raise BundleError(f"Expected {names[0]} and {names[1]} to share a symbol, was none. Compare others.")
    common = rows.filter(pl.col("symbol").is_in(shared))
    if common.is_empty():
        raise SnapshotError("Expected rows that neither of the two was fitted on, was none. Wait for newer bars.")
    first, second = (
        backtest_model(one, snapshot, common, funding, parameters, symbols=shared) for one in (bundle, other)
    )
    return Compared(compare_accounts(first, second, names), first, second)


def compare_accounts(backtest: ModelBacktest, other: ModelBacktest, names: tuple[str, str]) -> AccountComparison:
    """The figures of two backtests of the same bars, side by side."""
    days, ours, theirs = _by_day(backtest, other)
    differences = ours - theirs
    lower = upper = None
    if days.len() >= _FEWEST_DAYS:
        times = days.cast(pl.Datetime("ms")).dt.epoch("ms").to_numpy()
        found = BlockBootstrap(times, horizon_ms=0, seed=0).mean(differences)
        lower, upper = found.lower_95, found.upper_95
    return AccountComparison(
        name=names[0],
        other=names[1],
        account=backtest_metrics(backtest.result).strategy,
        other_account=backtest_metrics(other.result).strategy,
        days=days.len(),
        days_better=int((differences > 0.0).sum()),
        days_worse=int((differences < 0.0).sum()),
        mean_daily_difference=float(differences.mean()),
        lower_95=lower,
        upper_95=upper,
        correlation=_correlation(ours, theirs),
    )


def _by_day(backtest: ModelBacktest, other: ModelBacktest) -> tuple[pl.Series, np.ndarray, np.ndarray]:
    one, two = (
        daily_returns(found.result.strategy, found.result.parameters.initial_equity) for found in (backtest, other)
    )
    return one["day"], one["return"].to_numpy(), two["return"].to_numpy()


def _correlation(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    if ours.size < 2 or float(np.ptp(ours)) < 1e-15 or float(np.ptp(theirs)) < 1e-15:
        return None
    return float(np.corrcoef(ours, theirs)[0, 1])
