"""What a backtest's result hangs on: the costs charged, the money put in, and what the forecasts promised.

Each is a sweep over the market that was traded; the rules of trading stay what they were.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.backtest.simulation_market import Market
from levibot_core.backtest.simulation_parameters import BacktestParameters
from levibot_core.backtest.sweep import sweep
from levibot_core.errors import DataQualityError

FEES_BPS: Final = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0)
SLIPPAGES_BPS: Final = (0.0, 2.0, 5.0, 10.0, 20.0)
CAPITALS: Final = (1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8)
COSTS_BPS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0)
"""Fee and slippage of one fill together."""
_CURVE_POINTS: Final = 60
_BPS: Final = 1e-4
_HAIR: Final = 1e-12


class CostSurface(BaseModel):
    """The result by what a fill costs, with the same decisions. Shape (slippages, fees)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fees_bps: tuple[float, ...]
    slippages_bps: tuple[float, ...]
    total_return: tuple[tuple[float, ...], ...]
    sharpe: tuple[tuple[float | None, ...], ...]


class CapacityPoint(BaseModel):
    """The result with so much money, where the volume limits fills and fills move the price."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    capital: float = Field(description="Quote currency")
    total_return: float
    sharpe: float | None
    exposure: float = Field(description="Mean gross position over equity: falls where orders cannot be filled")
    slippage_bps: float | None = Field(description="Mean slippage of what was traded, impact included")


class CostLevel(BaseModel):
    """The account if a fill cost so little, with every forecast that pays at that cost, whatever its probability."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cost_bps: float = Field(description="Fee and slippage of one fill")
    forecasts: int = Field(description="Whose edge exceeds the cost of a round trip")
    trades: int
    total_return: float
    sharpe: float | None


class ForecastEdges(BaseModel):
    """How much the forecasts promised, against what a round trip costs. Edges are expected returns over the horizon."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    forecasts: int
    takes_side: int = Field(description="Whose probability is beyond a threshold")
    pays: int = Field(description="Whose edge exceeds the cost of a round trip")
    acted_on: int = Field(description="Both")
    round_trip_bps: float
    median_bps: float | None
    largest_bps: float | None
    curve_bps: tuple[float, ...] = Field(description="Costs of a round trip, rising, from 0 on")
    curve_share: tuple[float, ...] = Field(description="Of the forecasts, those that would pay more than that")


def cost_surface(market: Market, parameters: BacktestParameters) -> CostSurface:
    """Charge other fees and slippages to the same decisions.

    Raises:
        DataQualityError: as `sweep`.
    """
    # What is charged now has to be among them, to be found again.
    fees = _with(FEES_BPS, parameters.taker_fee / _BPS)
    slippages = _with(SLIPPAGES_BPS, parameters.slippage / _BPS)
    grid = [
        parameters.model_copy(update={"taker_fee": fee * _BPS, "maker_fee": fee * _BPS, "slippage": slippage * _BPS})
        for slippage in slippages
        for fee in fees
    ]
    figures = sweep(market, grid)

    def rows(name: str) -> tuple[tuple[float, ...], ...]:
        values = figures[name].to_list()
        return tuple(tuple(values[start : start + len(fees)]) for start in range(0, len(values), len(fees)))

    return CostSurface(fees_bps=fees, slippages_bps=slippages, total_return=rows("total_return"), sharpe=rows("sharpe"))


def capacity_curve(
    market: Market, parameters: BacktestParameters, capitals: Sequence[float] = CAPITALS
) -> tuple[CapacityPoint, ...]:
    """Put in other amounts of money, quote currency.

    Raises:
        DataQualityError: the volume is unknown, so that any amount would be filled.
    """
    if not market.has_volume:
        raise DataQualityError("Expected the volume of every bar to tell how much money finds room, was without.")
    figures = sweep(market, [parameters.model_copy(update={"initial_equity": capital}) for capital in capitals])
    points = []
    for capital, row in zip(capitals, figures.iter_rows(named=True), strict=True):
        traded = row["traded"]
        points.append(
            CapacityPoint(
                capital=capital,
                total_return=row["total_return"],
                sharpe=row["sharpe"],
                exposure=row["exposure"],
                slippage_bps=row["slippage_paid"] / traded / _BPS if traded > 0.0 else None,
            )
        )
    return tuple(points)


def cost_ladder(
    market: Market, forecasts: pl.DataFrame, parameters: BacktestParameters, costs_bps: Sequence[float] = COSTS_BPS
) -> tuple[CostLevel, ...]:
    """What the same forecasts would have come to if trading cost less, or more.

    Each level acts on every forecast whose edge pays there, also where the probability is within the thresholds: so it
    is told whether there is anything in the forecasts that costs hide.

    Args:
        market: The bars; its own forecasts are not looked at.
        forecasts: As `levibot_core.backtest.candidate.model_forecasts` gives them.
        parameters: How they are traded; the fee of a level is all of its cost.
        costs_bps: Levels.
    """
    beliefs, edges = market.places(forecasts, "prob_up"), market.places(forecasts, "edge")
    levels = []
    for cost in _with(costs_bps, (parameters.taker_fee + parameters.slippage) / _BPS):
        pays = np.abs(edges) > 2.0 * cost * _BPS
        charged = parameters.model_copy(
            update={
                "long_threshold": 0.5 + _HAIR,
                "short_threshold": 0.5 - _HAIR,
                "taker_fee": cost * _BPS,
                "maker_fee": cost * _BPS,
                "slippage": 0.0,
            }
        )
        row = sweep(market.believing(np.where(pays, beliefs, np.nan)), [charged]).row(0, named=True)
        levels.append(
            CostLevel(
                cost_bps=cost,
                forecasts=int(pays.sum()),
                trades=row["trades"],
                total_return=row["total_return"],
                sharpe=row["sharpe"],
            )
        )
    return tuple(levels)


def forecast_edges(forecasts: pl.DataFrame, parameters: BacktestParameters) -> ForecastEdges:
    """How many forecasts would pay a round trip of any cost.

    Args:
        forecasts: `prob_up`, `edge` (fraction; null where there is none) and `pays` of each.
        parameters: Thresholds and costs.
    """
    sizes = forecasts["edge"].abs().drop_nulls().to_numpy() / _BPS
    cost = 2.0 * (parameters.taker_fee + parameters.slippage) / _BPS
    beyond = (pl.col("prob_up") >= parameters.long_threshold) | (pl.col("prob_up") <= parameters.short_threshold)
    sided = forecasts.select(beyond.fill_null(value=False)).to_series()
    widest = max(cost * 1.25, float(sizes.max()) * 1.02 if sizes.size else 0.0)
    curve = np.linspace(0.0, widest, _CURVE_POINTS)
    above = 1.0 - np.searchsorted(np.sort(sizes), curve, side="right") / max(sizes.size, 1)
    return ForecastEdges(
        forecasts=sizes.size,
        takes_side=int(sided.sum()),
        pays=int(forecasts["pays"].sum()),
        acted_on=int((sided & forecasts["pays"]).sum()),
        round_trip_bps=cost,
        median_bps=float(np.median(sizes)) if sizes.size else None,
        largest_bps=float(sizes.max()) if sizes.size else None,
        curve_bps=tuple(curve.tolist()),
        curve_share=tuple(above.tolist()) if sizes.size else (),
    )


def _with(levels: Sequence[float], one: float) -> tuple[float, ...]:
    """The levels and one more, in order, each once."""
    if any(math.isclose(level, one, abs_tol=1e-9) for level in levels):
        return tuple(levels)
    return tuple(sorted((*levels, one)))
