"""Everything that a report says of a backtest beyond its figures: one call, and nothing that is drawn.

The parts are in `.sensitivity`, `.breakdown`, `.sweep` and `.comparison`; what they look like in `.report`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.backtest.breakdown import RegimeFigures, SymbolFigures, by_regime, by_symbol
from levibot_core.backtest.candidate import ModelBacktest
from levibot_core.backtest.comparison import AccountComparison
from levibot_core.backtest.metrics import daily_returns
from levibot_core.backtest.sensitivity import (
    CapacityPoint,
    CostLevel,
    CostSurface,
    ForecastEdges,
    capacity_curve,
    cost_ladder,
    cost_surface,
    forecast_edges,
)
from levibot_core.backtest.sweep import WINDOW_DAYS, rolling_windows
from levibot_core.backtest.sweep_random_entries import random_entry_significance
from levibot_core.errors import DataQualityError
from levibot_core.validation.deflated_sharpe import deflate

FloatArray = npt.NDArray[np.float64]

_FEWEST_DEFLATED_DAYS: Final = 5


class WindowFigures(BaseModel):
    """One window with an account of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    start: datetime
    end: datetime
    total_return: float
    sharpe: float | None
    max_drawdown: float
    trades: int
    hit_rate: float | None
    funding_paid: float


class RandomEntryFigures(BaseModel):
    """How many random runs with the same exposure did as well."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    p_value: float
    total_return: float
    random_returns: tuple[float, ...] = Field(description="Sorted")


class DeflatedFigures(BaseModel):
    """What is left of the account's Sharpe ratio when every trial ever run is counted. Ratios are per day."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sharpe_per_day: float
    days: int
    probabilistic: float = Field(description="Probability that the true ratio is above 0, had nothing else been tried")
    deflated: float = Field(description="Probability that it is above that of the best of as many worthless trials")
    expected_maximum: float = Field(description="The ratio of that best")
    trials: int
    effective_trials: int


class BacktestAnalysis(BaseModel):
    """What a backtest's result hangs on. None and empty where there is nothing to tell, as without any trade."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_days: int
    windows: tuple[WindowFigures, ...]
    symbols: tuple[SymbolFigures, ...]
    regimes: tuple[RegimeFigures, ...]
    edges: ForecastEdges
    cost_ladder: tuple[CostLevel, ...]
    cost_surface: CostSurface | None
    capacity: tuple[CapacityPoint, ...]
    random_entries: RandomEntryFigures | None
    deflated: DeflatedFigures | None
    champion: AccountComparison | None
    champion_note: str = Field(description="Why there is no comparison; empty where there is one")


def analyse(
    backtest: ModelBacktest,
    history: pl.DataFrame,
    trials: FloatArray | None = None,
    champion: AccountComparison | None = None,
    champion_note: str = "",
    on_stage: Callable[[str], None] = lambda _: None,
) -> BacktestAnalysis:
    """Look at a backtest from every side.

    Args:
        backtest: The backtest.
        history: Candles (`symbol`, `ts`, `close`) of its window and of a week or more before it.
        trials: Daily returns of every trial ever run, (trials, days), NaN where one has none; None leaves the
            deflated Sharpe ratio out.
        champion: The comparison with the champion, where there is one.
        champion_note: Else why there is none.
        on_stage: Told in words what is computed next.

    Raises:
        DataQualityError: as `sweep`.
    """
    market, parameters, result = backtest.market, backtest.result.parameters, backtest.result
    traded = result.strategy.trades.height > 0
    on_stage("Rolling windows")
    windows = rolling_windows(market, parameters).iter_rows(named=True)
    on_stage("Costs and capital")
    ladder = cost_ladder(market, backtest.forecasts, parameters)
    surface = cost_surface(market, parameters) if traded else None
    capacity = capacity_curve(market, parameters) if traded and market.has_volume else ()
    on_stage("Random entries")
    entries = _random_entries(backtest) if traded else None
    on_stage("Regimes")
    return BacktestAnalysis(
        window_days=WINDOW_DAYS,
        windows=tuple(WindowFigures(**{name: row[name] for name in WindowFigures.model_fields}) for row in windows),
        symbols=by_symbol(result, market),
        regimes=by_regime(result, history.filter(pl.col("symbol").is_in(list(market.symbols)))),
        edges=forecast_edges(backtest.forecasts, parameters),
        cost_ladder=ladder,
        cost_surface=surface,
        capacity=capacity,
        random_entries=entries,
        deflated=_deflated(backtest, trials),
        champion=champion,
        champion_note=champion_note,
    )


def _random_entries(backtest: ModelBacktest) -> RandomEntryFigures | None:
    try:
        found = random_entry_significance(backtest.market, backtest.result.parameters)
    except DataQualityError:  # too few bars to move anything over
        return None
    return RandomEntryFigures(
        p_value=found.p_value, total_return=found.total_return, random_returns=found.random_returns
    )


def _deflated(backtest: ModelBacktest, trials: FloatArray | None) -> DeflatedFigures | None:
    """None where nothing varied, there are too few days, or no trial is known."""
    days = daily_returns(backtest.result.strategy, backtest.result.parameters.initial_equity)["return"].to_numpy()
    if trials is None or days.size < _FEWEST_DEFLATED_DAYS or not np.isfinite(trials).any():
        return None
    found = deflate(days, trials)
    if found is None:
        return None
    return DeflatedFigures(
        sharpe_per_day=found.observed.sharpe,
        days=found.observed.periods,
        probabilistic=found.probabilistic,
        deflated=found.deflated,
        expected_maximum=found.expected_maximum,
        trials=found.trials,
        effective_trials=found.effective_trials,
    )
