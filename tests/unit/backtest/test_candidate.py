"""A model is traded only where its forecasts pay: the same rows in a calm and in a wild market."""

import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from levibot_core.backtest.candidate import (
    backtest_model,
    expected_volatilities,
    forecasts_that_pay,
    model_forecasts,
)
from levibot_core.backtest.comparison import compare_models
from levibot_core.backtest.metrics import backtest_metrics, reasons_against_trading
from levibot_core.errors import BundleError, MissingFeatureError, SnapshotError
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.uncertainty import VOLATILITY_FEATURE
from levibot_core.models.volatility import VOLATILITY_BOOSTER, VOLATILITY_SETTINGS
from levibot_core.models.volatility_fitting import train_volatility
from levibot_core.risk.policy import CostAwarePolicy
from levibot_core.risk.sizing import SizingRule
from levibot_core.schemas import TIMESTAMP

BARS = 30
HORIZON = 4


def always_up(symbols: tuple[str, ...] = ("A/B",), horizon_bars: int = HORIZON, rises: int = 40) -> ModelBundle:
    """Forecasts a rise with a probability of about 0.79, always."""
    identity = BundleIdentity(
        model_name="levibot-5m-h4",
        timeframe="5m",
        horizon_bars=horizon_bars,
        symbols=symbols,
        feature_set="v1",
        features=(VOLATILITY_FEATURE,),
        snapshot_id="none",
        source_kind="recorded",
        created_at=datetime(2025, 1, 1, tzinfo=UTC),
        seed=1,
    )
    return base_rate_bundle(identity, np.repeat([1, 0], [rises, 50 - rises]))


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return always_up()


def market(volatility: float) -> tuple[Any, pl.DataFrame]:
    """A snapshot whose price never moves, and rows that say how volatile it was."""
    start = datetime(2025, 1, 1, tzinfo=UTC)
    candles = pl.DataFrame(
        {
            "symbol": ["A/B"] * BARS,
            "ts": pl.Series([start + timedelta(minutes=5 * bar) for bar in range(BARS)]).cast(TIMESTAMP),
            "open": [100.0] * BARS,
            "close": [100.0] * BARS,
            "volume": [1e4] * BARS,
        }
    )
    rows = candles.select("symbol", "ts", pl.lit(volatility).alias(VOLATILITY_FEATURE))
    return SimpleNamespace(candles=candles, rows=rows, manifest=SimpleNamespace(timeframe="5m")), rows


def test_a_forecast_is_kept_exactly_where_its_edge_exceeds_the_costs(bundle: ModelBundle) -> None:
    _, rows = market(0.01)
    volatilities = np.linspace(0.0, 0.01, BARS)
    rows = rows.with_columns(pl.Series(VOLATILITY_FEATURE, volatilities))
    policy = CostAwarePolicy()
    found = forecasts_that_pay(bundle, rows, policy)

    probability = bundle.predict(np.zeros((1, 2)))[0]
    edges = (2 * probability - 1) * math.sqrt(2 / math.pi) * volatilities * math.sqrt(HORIZON)
    expected = [probability if edge > policy.round_trip_cost else None for edge in edges]
    assert found["prob_up"].to_list() == expected
    assert 0 < found["prob_up"].null_count() < BARS
    assert found.select("symbol", "ts").equals(rows.select("symbol", "ts"))


def test_a_calm_market_is_not_traded_and_the_reason_names_the_costs(bundle: ModelBundle) -> None:
    calm, wild = (backtest_model(bundle, *market(volatility)) for volatility in (0.0005, 0.01))
    assert wild.result.strategy.trades.height == 1
    assert calm.result.strategy.trades.is_empty()
    assert "pay its costs" in reasons_against_trading(backtest_metrics(calm.result))[0]
    assert not wild.funding.counted
    assert wild.funding.note == "no funding rates are known"


def test_the_account_is_that_of_the_live_engines_and_pays_funding_at_its_instant(bundle: ModelBundle) -> None:
    snapshot, rows = market(0.01)
    settled = pl.Series([datetime(2025, 1, 1, hour, minute, tzinfo=UTC) for hour, minute in ((0, 0), (1, 0), (2, 0))])
    funding = pl.DataFrame({"symbol": "A/B", "ts": settled.cast(TIMESTAMP), "rate": 0.001})

    found = backtest_model(bundle, snapshot, rows, funding)

    (trade,) = found.result.strategy.trades.to_dicts()
    probability = bundle.predict(np.zeros((1, 2)))[0]
    per_year = 0.01 * math.sqrt(365 * 288)
    assert trade["notional"] == pytest.approx(10_000 * SizingRule().size(probability, "long", per_year))
    # Bought at 00:05 and held to the end: the settlements of 01:00 and 02:00 are paid, that of 00:00 is not.
    assert trade["funding"] == pytest.approx(2 * 0.001 * trade["quantity"] * 100.0)
    assert found.funding.counted
    assert found.funding.settlements == 3
    assert found.result.buy_and_hold.trades["funding"].to_list() == [0.0]
    # Impact: the volatility of a bar times the root of the part of the bar's value, beside five basis points.
    slip = 0.0005 + 0.01 * math.sqrt(trade["notional"] / 1e6)
    assert trade["entry_price"] == pytest.approx(100.0 * (1.0 + slip))


def test_funding_with_a_hole_is_not_paid_and_the_hole_is_named(bundle: ModelBundle) -> None:
    snapshot, rows = market(0.01)
    settled = pl.Series([datetime(2025, 1, 1, 0, minute, tzinfo=UTC) for minute in (0, 10, 20, 50)])
    funding = pl.DataFrame({"symbol": "A/B", "ts": settled.cast(TIMESTAMP), "rate": 0.001})

    found = backtest_model(bundle, snapshot, rows, funding)

    assert not found.funding.counted
    assert "was none from 2025-01-01 00:50 to 2025-01-01 02:30 UTC" in found.funding.note
    assert found.result.strategy.trades["funding"].to_list() == [0.0]


def test_what_a_forecast_promises_is_told_of_all_of_them(bundle: ModelBundle) -> None:
    _, rows = market(0.01)
    found = model_forecasts(bundle, rows, CostAwarePolicy())
    probability = bundle.predict(np.zeros((1, 2)))[0]
    edge = (2 * probability - 1) * math.sqrt(2 / math.pi) * 0.01 * math.sqrt(HORIZON)
    assert found["edge"].to_list() == pytest.approx([edge] * BARS)
    assert found["volatility"].to_list() == pytest.approx([0.01] * BARS)
    assert found["pays"].all()
    still = model_forecasts(bundle, rows.with_columns(pl.lit(0.0).alias(VOLATILITY_FEATURE)), CostAwarePolicy())
    assert still["prob_up"].null_count() == still["edge"].null_count() == BARS
    assert not still["pays"].any()


def test_the_volatility_head_is_asked_where_there_is_one(bundle: ModelBundle) -> None:
    _, rows = market(0.0005)
    features = np.column_stack([np.random.default_rng(1).normal(size=400), np.zeros(400)])
    trained = train_volatility(
        (features, np.full(400, 0.05)), (features, np.full(400, 0.05)), (VOLATILITY_FEATURE,), HORIZON, 1, max_rounds=1
    )
    parts = {
        VOLATILITY_BOOSTER: trained.booster_text.encode(),
        VOLATILITY_SETTINGS: trained.settings_text.encode(),
    }
    with_head = bundle.with_parts(parts)
    assert expected_volatilities(with_head, rows) == pytest.approx(np.full(BARS, 0.05))
    assert expected_volatilities(bundle, rows) == pytest.approx(np.full(BARS, 0.001))
    assert forecasts_that_pay(with_head, rows, CostAwarePolicy())["prob_up"].null_count() == 0


def test_without_any_volatility_the_model_is_not_traded_on_a_guess(bundle: ModelBundle) -> None:
    _, rows = market(0.01)
    with pytest.raises(MissingFeatureError, match=VOLATILITY_FEATURE):
        expected_volatilities(bundle, rows.drop(VOLATILITY_FEATURE))


def test_two_models_meet_on_the_bars_that_both_can_forecast(bundle: ModelBundle) -> None:
    snapshot, rows = market(0.01)
    names = ("version 2", "version 1")

    found = compare_models(bundle, always_up(rises=25), snapshot, rows, names)

    assert (found.comparison.name, found.comparison.other) == names
    assert found.comparison.account.trades == 1
    assert found.comparison.other_account.trades == 0  # it says a half
    assert found.comparison.mean_daily_difference < 0.0
    assert found.comparison.lower_95 is None  # a single day
    refused: list[tuple[type[Exception], str, ModelBundle, pl.DataFrame]] = [
        (BundleError, "two models of one event", always_up(horizon_bars=5), rows),
        (BundleError, "to share a symbol", always_up(("C/D",)), rows),
        (SnapshotError, "neither of the two was fitted on, was none", bundle, rows.clear()),
    ]
    for error, message, other, some in refused:
        with pytest.raises(error, match=message):
            compare_models(bundle, other, snapshot, some, names)
