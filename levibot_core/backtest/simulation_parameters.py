"""What a backtest assumes, for people, and the same as a row of numbers for the compiled engine.

What each rule does is specified in docs/backtest.md.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from levibot_core.market.timeframe import Timeframe
from levibot_core.risk.sizing import SizingRule

LARGEST_SLIP: Final = 0.5
"""However small the volume: a purchase costs at most half as much again as the reference price."""


class BacktestParameters(BaseModel):
    """What a backtest assumes. Shares are fractions, not percent; None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    long_threshold: float = Field(0.55, gt=0, lt=1, description="Long from this probability up")
    short_threshold: float = Field(0.45, gt=0, lt=1, description="Short from this probability down")
    order_kind: Literal["taker", "maker"] = Field(
        "taker", description="A maker order waits for a price beyond its limit"
    )
    taker_fee: float = Field(0.0015, ge=0, description="Of the notional of each taker fill")
    maker_fee: float = Field(0.0010, ge=0, description="Of the notional of each maker fill")
    maker_offset: float = Field(0.0, ge=0, lt=1, description="How much better than the open a maker order's limit is")
    slippage: float = Field(0.0005, ge=0, le=LARGEST_SLIP, description="How much worse than the open a taker fill is")
    impact: float = Field(0.0, ge=0, description="More slippage: this x volatility x root of participation")
    participation_cap: float | None = Field(None, gt=0, description="Largest part of a bar's traded value to take")
    latency_bars: int = Field(1, ge=1, description="From the bar that decides to the bar whose open fills")
    equity_fraction: float = Field(0.10, gt=0, le=1, description="Equity put into each trade, without a sizing rule")
    sizing: SizingRule | None = Field(None, description="Kelly, volatility and confidence instead of a fixed fraction")
    symbol_cap: float | None = Field(None, gt=0, description="Largest share of equity put into one symbol")
    max_positions: int | None = Field(None, ge=1, description="Most symbols held at once")
    max_leverage: float | None = Field(None, gt=0, description="Sum of the sizes of all positions over equity")
    daily_loss_limit: float | None = Field(None, gt=0, le=1, description="Loss of a UTC day at which it is over")
    maintenance_margin: float | None = Field(0.005, ge=0, lt=1, description="Equity over positions when all is closed")
    compounding: bool = Field(True, description="Size positions by the equity there is, not by the first")
    initial_equity: float = Field(10_000.0, gt=0, description="Quote currency")

    @model_validator(mode="after")
    def _leave_a_band_between(self) -> Self:
        if self.short_threshold >= self.long_threshold:
            raise ValueError(f"expected short below long threshold, was {self.short_threshold}, {self.long_threshold}")
        return self


LIVE_POLICY: Final = BacktestParameters(
    sizing=SizingRule(), symbol_cap=0.20, max_positions=5, max_leverage=1.0, daily_loss_limit=0.03
)
"""The limits that the trading engines keep: Kelly's size, a fifth per symbol, five positions, 3 % a day."""

LIVE_ACCOUNT: Final = LIVE_POLICY.model_copy(update={"participation_cap": 0.05, "impact": 1.0})
"""The live policy in a market with so much volume and no more: a fill takes at most a twentieth of a bar's traded value
and moves the price by the bar's volatility times the root of its part (B. Toth et al., "Anomalous price impact and the
critical nature of liquidity in financial markets", 2011, section II: the factor before it is about 1)."""

CONFIGURATION: Final = np.dtype(
    [
        ("long_threshold", np.float64),
        ("short_threshold", np.float64),
        ("maker", np.bool_),
        ("taker_fee", np.float64),
        ("maker_fee", np.float64),
        ("maker_offset", np.float64),
        ("slippage", np.float64),
        ("impact", np.float64),
        ("participation_cap", np.float64),
        ("latency_bars", np.int64),
        ("equity_fraction", np.float64),
        ("kelly", np.bool_),
        ("kelly_cap", np.float64),
        ("kelly_fraction", np.float64),
        ("payoff", np.float64),
        ("volatility_target", np.float64),
        ("least_volatility_scale", np.float64),
        ("most_volatility_scale", np.float64),
        ("standstill_scale", np.float64),
        ("annual_root", np.float64),
        ("symbol_cap", np.float64),
        ("max_positions", np.int64),
        ("max_leverage", np.float64),
        ("daily_loss_limit", np.float64),
        ("maintenance_margin", np.float64),
        ("compounding", np.bool_),
        ("initial_equity", np.float64),
    ],
    align=True,
)
"""One configuration as the compiled engine reads it: infinity where nothing limits, -1 for no liquidation."""


def configuration_rows(configurations: Sequence[BacktestParameters], timeframe: Timeframe) -> npt.NDArray[np.void]:
    """The configurations for the compiled engine, dtype `CONFIGURATION`, (n,)."""
    rows = np.zeros(len(configurations), dtype=CONFIGURATION)
    for row, parameters in zip(rows, configurations, strict=True):
        for name, value in _fields(parameters, timeframe).items():
            row[name] = value
    return rows


def _fields(parameters: BacktestParameters, timeframe: Timeframe) -> dict[str, float]:
    rule = parameters.sizing or SizingRule()
    numbers = parameters.model_dump(exclude={"order_kind", "sizing"})
    unlimited = {
        "participation_cap": math.inf,
        "symbol_cap": math.inf,
        "max_positions": np.iinfo(np.int64).max,
        "max_leverage": math.inf,
        "daily_loss_limit": math.inf,
        "maintenance_margin": -1.0,
    }
    return {
        **{name: unlimited[name] if value is None else value for name, value in numbers.items()},
        **rule.model_dump(exclude={"symbol_cap"}),
        "maker": parameters.order_kind == "maker",
        "kelly": parameters.sizing is not None,
        "kelly_cap": rule.symbol_cap,
        "annual_root": math.sqrt(timeframe.bars_per_year),
    }
