"""The backtest of a model on rows that nothing was fitted on, which acts only where a forecast pays its costs.

The rules of trading are in `.engine`, when a forecast pays in `levibot_core.risk.policy`.
"""

import math

import numpy as np
import polars as pl

from levibot_core.backtest.engine import BacktestParameters, BacktestResult, run_backtest
from levibot_core.errors import MissingFeatureError
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.design import design_matrix
from levibot_core.models.row_forecasts import predict_rows
from levibot_core.models.uncertainty import VOLATILITY_FEATURE, read_uncertainty
from levibot_core.risk.policy import CostAwarePolicy
from levibot_core.stores.snapshots import Snapshot

_DEFAULT_PARAMETERS = BacktestParameters()


def backtest_model(
    bundle: ModelBundle, snapshot: Snapshot, rows: pl.DataFrame, parameters: BacktestParameters = _DEFAULT_PARAMETERS
) -> BacktestResult:
    """Trade those of a model's forecasts that are expected to pay their costs, from the first bar of some rows on.

    Args:
        bundle: The model.
        snapshot: Where the rows come from, with the candles to fill orders at.
        rows: Untouched rows: features of the model, `symbol`, `ts`.
        parameters: Thresholds, costs and sizes; the policy has the same costs.

    Raises:
        MissingFeatureError, UnknownSymbolError, BundleError: as `forecasts_that_pay`.
        DataQualityError: as `run_backtest`.
    """
    policy = CostAwarePolicy(taker_fee=parameters.taker_fee, slippage=parameters.slippage)
    candles = snapshot.candles.filter(pl.col("ts") >= rows["ts"].min())
    timeframe = Timeframe.parse(snapshot.manifest.timeframe)
    return run_backtest(candles, forecasts_that_pay(bundle, rows, policy, snapshot.rows), timeframe, parameters)


def forecasts_that_pay(
    bundle: ModelBundle, rows: pl.DataFrame, policy: CostAwarePolicy, history: pl.DataFrame | None = None
) -> pl.DataFrame:
    """A model's forecasts, without those whose edge does not exceed the cost of a round trip.

    Args:
        bundle: The model.
        rows: Features of the model, `symbol`, `ts`.
        policy: What a trade costs.
        history: The rows that windows are cut from, `rows` among them; `rows` themselves when None.

    Returns:
        `symbol`, `ts` and `prob_up` of every row, in their order; null where acting is not expected to pay, where
        nothing moved, so that there is no volatility to expect, and where the model's window is not whole. Of a model
        of triple barriers all are null: the policy knows what to do with the probability of a rise, see
        `levibot_core.risk.policy`.

    Raises:
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
        UnknownSymbolError: a row's symbol is not among the model's.
        BundleError: the model's volatility head cannot be read.
    """
    if bundle.manifest.triple_barrier is not None:
        return rows.select("symbol", "ts", prob_up=pl.lit(None, pl.Float64))
    probabilities, volatilities = predict_rows(bundle, rows, history), expected_volatilities(bundle, rows)
    moves = (volatilities > 0.0) & np.isfinite(probabilities)
    pays = np.zeros(rows.height, dtype=np.bool_)
    pays[moves] = policy.pays(probabilities[moves], volatilities[moves])
    return rows.select("symbol", "ts", prob_up=pl.when(pl.Series(pays)).then(pl.Series(probabilities)))


def expected_volatilities(bundle: ModelBundle, rows: pl.DataFrame) -> np.ndarray:
    """Volatility of the return over the model's horizon, fraction, float64 (n,).

    The head's forecast where the model has one, else what the last 48 bars suggest, as in serving. Raises as
    `forecasts_that_pay`.
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
