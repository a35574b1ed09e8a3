"""The optional parts, fitted on a market whose volatility goes up and down slowly, and read back as serving does."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from levibot_core.labels.direction import direction_labels
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import BundleIdentity
from levibot_core.models.uncertainty import read_uncertainty, return_outlook
from levibot_core.models.uncertainty_fitting import FittedUncertainty, fit_uncertainty
from levibot_core.schemas import TIMESTAMP
from levibot_core.validation.split import SplitResult, chronological_split

FIVE_MINUTES = Timeframe.parse("5m")
START_MS = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1000)
SYMBOLS = ("BTC/USDT", "ETH/USDT")
BARS = 2000


@pytest.fixture(scope="module")
def market() -> tuple[SplitResult, pl.DataFrame]:
    """Split rows whose feature `regime` names the volatility of the moment, and the candles."""
    generator = np.random.default_rng(0)
    ts = pl.Series(START_MS + 300_000 * np.arange(BARS)).cast(TIMESTAMP)
    candles, rows = [], []
    for symbol in SYMBOLS:
        regime = np.sin(np.arange(BARS) / 40.0) + 0.1 * generator.normal(size=BARS)
        closes = 100.0 * np.exp(np.cumsum(0.001 * np.exp(regime) * generator.normal(size=BARS)))
        own = pl.DataFrame({"symbol": [symbol] * BARS, "ts": ts, "close": closes})
        candles.append(own)
        rows.append(
            own.select("symbol", "ts", known_at=pl.col("ts") + pl.duration(minutes=5), regime=pl.Series(regime))
        )
    market = pl.concat(candles)
    labelled = pl.concat(rows).join(direction_labels(market, FIVE_MINUTES, 6), on=["symbol", "ts"])
    return chronological_split(labelled.sort("symbol", "ts")), market


@pytest.fixture(scope="module")
def regime_identity(identity: BundleIdentity) -> BundleIdentity:
    return identity.model_copy(update={"features": ("regime",), "horizon_bars": 6, "symbols": SYMBOLS})


@pytest.fixture(scope="module")
def fitted(market: tuple[SplitResult, pl.DataFrame], regime_identity: BundleIdentity) -> FittedUncertainty:
    return fit_uncertainty(*market, regime_identity)


def test_a_head_that_sees_the_regime_beats_both_baselines(fitted: FittedUncertainty) -> None:
    report = fitted.report
    assert set(report.qlike) == {"head", "har_rv", "ewma"}
    for difference in report.qlike_difference.values():
        assert difference.upper_95 < 0.0
    assert report.test_rows > 500


def test_the_interval_holds_what_it_promises(fitted: FittedUncertainty) -> None:
    assert fitted.report.coverage["test"].coverage == pytest.approx(0.9, abs=0.05)
    assert fitted.report.kept_coverage == pytest.approx(0.9, abs=0.06)


def test_the_parts_are_read_back_and_the_report_survives_json(
    fitted: FittedUncertainty, regime_identity: BundleIdentity
) -> None:
    parts = read_uncertainty(fitted.parts, regime_identity.horizon_bars)
    calm, wild = (return_outlook(parts, "ETH/USDT", {"regime": regime}, SYMBOLS) for regime in (-1.0, 1.0))
    assert calm is not None
    assert wild is not None
    assert wild.volatility > 2 * calm.volatility
    restored = type(fitted.report).model_validate_json(fitted.report.model_dump_json())
    assert restored == fitted.report


def test_later_rows_change_neither_head_nor_interval(
    market: tuple[SplitResult, pl.DataFrame], fitted: FittedUncertainty, regime_identity: BundleIdentity
) -> None:
    split, candles = market
    first_test = pl.from_epoch(pl.lit(split.boundaries["test"]), "ms").dt.replace_time_zone("UTC")
    noise = np.random.default_rng(1).uniform(0.5, 2.0, candles.height)
    shaken = candles.with_columns(
        close=pl.when(pl.col("ts") >= first_test).then(pl.col("close") * noise).otherwise("close")
    )
    assert fit_uncertainty(split, shaken, regime_identity).parts == fitted.parts
