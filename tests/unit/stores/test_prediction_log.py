from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.stores.prediction_log import LoggedForecast, PredictionLog, parse_forecast

DAY_MS = 86_400_000
FORECAST = LoggedForecast(
    served_at_ms=1_767_323_101_250,
    role="champion",
    model="levibot-5m-h12",
    model_version=7,
    symbol="BTC/USDT",
    as_of_ms=1_767_323_100_000,
    horizon_ms=3_600_000,
    price=97310.5,
    prob_up=0.571,
    confidence=0.142,
    side="long",
    price_target=None,
    source="exchange",
    tradable=True,
    abstain=False,
    fallback=False,
)


def test_forecasts_come_back_as_they_were_from_either_end(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "predictions")
    assert list(log.newest()) == list(log.since(0)) == []
    written = [
        replace(FORECAST, served_at_ms=FORECAST.served_at_ms + number * DAY_MS // 400, prob_up=number / 1000)
        for number in range(900)
    ]
    log.append(written[:500])
    log.append(written[500:])
    assert list(log.files()) == [date(2026, 1, 2), date(2026, 1, 3), date(2026, 1, 4)]
    assert list(log.newest()) == written[::-1]
    assert list(log.since(written[450].served_at_ms)) == written[450:]


def test_a_line_that_was_cut_short_is_left_out_and_the_next_is_whole(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    log.append([FORECAST])
    path = log.file_of(FORECAST.served_at_ms)
    path.write_bytes(path.read_bytes() + b'{"served_at_ms": 17673')
    log.append([replace(FORECAST, symbol="ETH/USDT")])
    assert [item.symbol for item in log.newest()] == ["ETH/USDT", "BTC/USDT"]
    assert [item.symbol for item in log.since(0)] == ["BTC/USDT", "ETH/USDT"]


def test_a_number_that_is_none_is_not_written(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.append([FORECAST, replace(FORECAST, price=float("nan"))])
    assert list(log.since(0)) == []


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_no_line_is_guessed_at(line: bytes) -> None:
    assert parse_forecast(line) is None
