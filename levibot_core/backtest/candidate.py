"""The backtest of a model on rows that nothing was fitted on, which acts only where a forecast pays its costs.

The account is that of the live engines: their sizes and limits, real funding, and fills that the volume limits. The
rules of trading are in `.engine`, when a forecast pays in `levibot_core.risk.policy`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from levibot_core.backtest.engine import BacktestResult, run_on
from levibot_core.backtest.simulation_checks import check_candles
from levibot_core.backtest.simulation_funding import FundingUse, funding_of_window
from levibot_core.backtest.simulation_market import Market
from levibot_core.backtest.simulation_parameters import LIVE_ACCOUNT, BacktestParameters
from levibot_core.errors import MissingFeatureError
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.design import design_matrix
from levibot_core.models.row_forecasts import predict_rows
from levibot_core.models.uncertainty import VOLATILITY_FEATURE, read_uncertainty
from levibot_core.risk.policy import CostAwarePolicy
from levibot_core.stores.snapshots import Snapshot
from levibot_core.stores.training_rows import TrainingRows


@dataclass(frozen=True, slots=True)
class ModelBacktest:
    """A model's account, and what it was made from.

    Attributes:
        result: The account, and that of buying and holding.
        market: Bars, and those forecasts that pay.
        forecasts: All of them, as `model_forecasts` gives them.
        funding: Whether funding was paid.
    """

    result: BacktestResult
    market: Market
    forecasts: pl.DataFrame
    funding: FundingUse


def backtest_model(
    bundle: ModelBundle,
    data: Snapshot | TrainingRows,
    rows: pl.DataFrame,
    funding: pl.DataFrame | None = None,
    parameters: BacktestParameters = LIVE_ACCOUNT,
    symbols: Sequence[str] | None = None,
) -> ModelBacktest:
    """Trade those of a model's forecasts that are expected to pay their costs, from the first bar of some rows on.

    Args:
        bundle: The model.
        data: Where the rows come from, with the candles to fill orders at.
        rows: Untouched rows: features of the model, `symbol`, `ts`.
        funding: Settled rates of the symbols: `symbol`, `ts`, `rate`. Where they have a hole in the window, none is
            paid, and `ModelBacktest.funding` says so.
        parameters: Thresholds, costs and sizes; the policy has the same costs.
        symbols: What to trade and to hold; None is all that the model knows.

    Raises:
        MissingFeatureError, UnknownSymbolError, BundleError: as `model_forecasts`.
        DataQualityError: as `run_backtest`.
    """
    policy = CostAwarePolicy(taker_fee=parameters.taker_fee, slippage=parameters.slippage)
    forecasts = model_forecasts(bundle, rows, policy, data.rows)
    # A leading market that is only looked at is not traded, nor held.
    traded = pl.col("symbol").is_in(list(symbols or bundle.manifest.symbols))
    candles = data.candles.filter(traded, pl.col("ts") >= rows["ts"].min())
    check_candles(candles)
    timeframe = Timeframe.parse(bundle.manifest.timeframe)
    opens = candles["ts"].dt.epoch("ms").to_numpy()
    window = int(opens.min()), int(opens.max()) + timeframe.milliseconds
    known, use = funding_of_window(funding, candles["symbol"].unique().sort().to_list(), *window)
    acted = forecasts.select("symbol", "ts", "volatility", prob_up=pl.when(pl.col("pays")).then(pl.col("prob_up")))
    market = Market.of(candles, acted, timeframe, known)
    return ModelBacktest(run_on(market, parameters), market, forecasts, use)


def model_forecasts(
    bundle: ModelBundle, rows: pl.DataFrame, policy: CostAwarePolicy, history: pl.DataFrame | None = None
) -> pl.DataFrame:
    """A model's forecasts, and what each promises.

    Args:
        bundle: The model.
        rows: Features of the model, `symbol`, `ts`.
        policy: What a trade costs.
        history: The rows that windows are cut from, `rows` among them; `rows` themselves when None.

    Returns:
        `symbol` and `ts` of every row, in their order, with `prob_up`, `volatility` (of one bar's return, fraction),
        `edge` (expected return of a long position over the horizon before costs, fraction) and `pays` (whether the
        edge exceeds the cost of a round trip). The first three are null where nothing moved, so that there is no
        volatility to expect, and where the model's window is not whole. Of a model of triple barriers all are null:
        the policy knows what to do with the probability of a rise, see `levibot_core.risk.policy`.

    Raises:
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
        UnknownSymbolError: a row's symbol is not among the model's.
        BundleError: the model's volatility head cannot be read.
    """
    if bundle.manifest.triple_barrier is not None:
        nothing = {name: pl.lit(None, pl.Float64) for name in ("prob_up", "volatility", "edge")}
        return rows.select("symbol", "ts", **nothing, pays=pl.lit(False))
    probabilities, volatilities = predict_rows(bundle, rows, history), expected_volatilities(bundle, rows)
    moves = (volatilities > 0.0) & np.isfinite(probabilities)
    edges = np.zeros(rows.height)
    edges[moves] = policy.edges(probabilities[moves], volatilities[moves])
    bars = volatilities / math.sqrt(bundle.manifest.horizon_bars)
    columns = {"prob_up": probabilities, "volatility": bars, "edge": edges}
    known = pl.Series(moves)
    return rows.select(
        "symbol",
        "ts",
        **{name: pl.when(known).then(pl.Series(values)) for name, values in columns.items()},
        pays=pl.Series(moves & (np.abs(edges) > policy.round_trip_cost)),
    )


def forecasts_that_pay(
    bundle: ModelBundle, rows: pl.DataFrame, policy: CostAwarePolicy, history: pl.DataFrame | None = None
) -> pl.DataFrame:
    """A model's forecasts, without those whose edge does not exceed the cost of a round trip.

    Args and Raises as `model_forecasts`.

    Returns:
        `symbol`, `ts` and `prob_up` of every row, in their order; null where acting is not expected to pay.
    """
    return model_forecasts(bundle, rows, policy, history).select(
        "symbol", "ts", prob_up=pl.when(pl.col("pays")).then(pl.col("prob_up"))
    )


def expected_volatilities(bundle: ModelBundle, rows: pl.DataFrame) -> np.ndarray:
    """Volatility of the return over the model's horizon, fraction, float64 (n,).

    The head's forecast where the model has one, else what the last 48 bars suggest, as in serving. Raises as
    `model_forecasts`.
    """
    manifest = bundle.manifest
    head = read_uncertainty(bundle.parts, manifest.horizon_bars).head
    if head is not None:
        return head.predict(design_matrix(rows, head.settings.features, manifest.symbols))
    if VOLATILITY_FEATURE not in rows.columns:
        raise MissingFeatureError(
            f"Expected the feature {VOLATILITY_FEATURE} of a model without a volatility head, was without. "
            "Train on a feature set that has it."
        )
    return rows[VOLATILITY_FEATURE].to_numpy() * math.sqrt(manifest.horizon_bars)
