"""The backtest of a model on the newest days of one symbol, with costs that somebody asked for.

The model may have been trained on these very rows: the report says so, and from when on they are new to it.
"""

from datetime import UTC, datetime

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.backtest.candidate import ModelBacktest, backtest_model
from levibot_core.backtest.simulation_parameters import BacktestParameters
from levibot_core.errors import MarketDataUnavailableError
from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.training_rows import TrainingRows


class RequestedBacktest(BaseModel):
    """What was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backtest_id: str = Field(pattern="^b-[0-9a-f]{16}$", description="Name of the report")
    symbol: str = Field(description="Inside spelling")
    days: int = Field(ge=1, description="Newest days of the symbol")
    fee_bps: float = Field(ge=0, description="Of the notional of each fill, basis points")
    slippage_bps: float = Field(ge=0, description="How much worse than the open a fill is, basis points")
    max_pos: float = Field(gt=0, le=1, description="Share of equity put into each trade")

    @property
    def parameters(self) -> BacktestParameters:
        """The costs and the size, with the platform's thresholds."""
        return BacktestParameters(
            taker_fee=self.fee_bps / 1e4, slippage=self.slippage_bps / 1e4, equity_fraction=self.max_pos
        )


def backtest_on_request(
    bundle: ModelBundle, data: TrainingRows, request: RequestedBacktest, start_ms: int, funding: pl.DataFrame
) -> ModelBacktest:
    """Trade those of a model's forecasts that are expected to pay the costs, from an instant on.

    Args:
        bundle: The model.
        data: Rows and candles; rows before `start_ms` serve as windows.
        request: What was asked for.
        start_ms: First open time to trade at, UTC milliseconds.
        funding: Settled rates: `symbol`, `ts`, `rate`.

    Raises:
        MarketDataUnavailableError: the symbol has no whole rows there.
        MissingFeatureError, UnknownSymbolError, BundleError, DataQualityError: as `backtest_model`.
    """
    rows = data.rows.filter((pl.col("symbol") == request.symbol) & (pl.col("ts").dt.epoch("ms") >= start_ms))
    if rows.is_empty():
        raise MarketDataUnavailableError(
            f"Expected whole rows of {request.symbol} in the newest {request.days} days, but there are none. Ingest "
            "and materialise its features first."
        )
    return backtest_model(bundle, data, rows, funding, request.parameters, (request.symbol,))


def reasons_against_belief(start_ms: int, trained_until_ms: int) -> tuple[str, ...]:
    """Why the figures say little about the future: rows that the model was trained on are among them."""
    if start_ms >= trained_until_ms:
        return ()
    until = datetime.fromtimestamp(trained_until_ms / 1000, UTC).isoformat(timespec="minutes")
    return (f"the model was trained on data until {until}, and the window begins before that",)
