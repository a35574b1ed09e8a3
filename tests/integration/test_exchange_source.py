"""The real ccxt client against a replay of MEXC and Binance on 127.0.0.1, with everything that goes wrong in life."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from levibot_core.config import Settings
from levibot_core.errors import ConfigurationError, SourceUnreachableError, UnknownSymbolError
from levibot_core.market.quality import assess_candles
from levibot_core.market.sources import open_source
from levibot_core.market.sources.ccxt_client import RetryPolicy
from levibot_core.market.sources.exchange import ExchangeSource, open_exchange
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import CANDLES, FEAR_GREED, FUNDING_RATES

FIVE = Timeframe.parse("5m")
STEP = FIVE.milliseconds
HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_735_689_600_000  # 2025-01-01 00:00 UTC
BARS = 2_200  # five pages of MEXC, three of Binance
NOW = START + BARS * STEP + 1_000
# Sources are shared by tests, so that no circuit may open in one and refuse the next.
IMPATIENT = RetryPolicy(
    attempts=4, first_wait_s=0.001, longest_wait_s=0.01, request_timeout_s=2.0, pause_ms=1, open_after=1_000
)
BOTH = pytest.mark.parametrize("exchange", ["mexc", "binance"])

Start = Callable[..., Any]


def series(bars: int) -> list[tuple[int, float, float, float, float, float]]:
    """`bars` closed candles and the one that is still open at NOW."""
    prices = [90_000.0 + 37.0 * ((17 * i) % 101) for i in range(bars + 2)]
    return [
        (START + i * STEP, a, max(a, b) + 5, min(a, b) - 5, b, 1.0 + i % 7) for i, (a, b) in enumerate(pairwise(prices))
    ]


@pytest.fixture(scope="module")
def server(replay: ModuleType) -> Iterator[Any]:
    """One server for all tests; `start` gives it another book."""
    with replay.ReplayExchange(replay.Book({"BTCUSDT": []}, STEP, NOW)) as running:
        yield running


@pytest.fixture(scope="module")
def sources(server: Any) -> dict[str, ExchangeSource]:
    """Opened once: MEXC asks for seconds between the requests that list its markets."""
    return {name: open_exchange((name,), server.base_url(name), IMPATIENT) for name in ("mexc", "binance")}


@pytest.fixture
def start(replay: ModuleType, server: Any) -> Start:
    """Gives the server a book with BTCUSDT, and faults."""

    def begin(candles: list[Any] | None = None, funding: list[Any] | None = None, **faults: Any) -> Any:
        server.reset(replay.Book({"BTCUSDT": candles or series(BARS)}, STEP, NOW, {"BTCUSDT": funding or []}), **faults)
        return server

    return begin


def fetched(source: ExchangeSource, end_ms: int = NOW + DAY) -> pl.DataFrame:
    return source.candles("BTC/USDT", "spot", FIVE, START, end_ms)


def opens(frame: pl.DataFrame) -> list[int]:
    return frame["ts"].dt.epoch("ms").to_list()


@BOTH
def test_all_closed_candles_come_page_by_page_and_the_open_one_is_dropped(
    start: Start, exchange: str, sources: dict[str, ExchangeSource]
) -> None:
    server = start()

    frame = fetched(sources[exchange])

    assert CANDLES.violations(frame) == []
    assert opens(frame) == [START + i * STEP for i in range(BARS)]
    expected = pl.DataFrame(series(BARS)[:BARS], schema=["ts", "open", "high", "low", "close", "volume"], orient="row")
    assert frame.select("open", "high", "low", "close", "volume").equals(expected.drop("ts"))
    assert frame["venue"].unique().to_list() == [exchange]
    assert (frame["known_at"] - frame["ts"]).dt.total_milliseconds().unique().to_list() == [STEP]
    assert len(server.asked("klines")) == -(-BARS // (500 if exchange == "mexc" else 1000))


@BOTH
def test_an_interval_within_the_data_gives_exactly_its_bars(
    start: Start, exchange: str, sources: dict[str, ExchangeSource]
) -> None:
    start()
    source = sources[exchange]

    frame = source.candles("BTC/USDT", "spot", FIVE, START + 100 * STEP + 1, START + 700 * STEP)

    assert opens(frame) == [START + i * STEP for i in range(101, 700)]
    assert source.latest_close_ms("BTC/USDT", "spot", FIVE) == START + BARS * STEP


@BOTH
@pytest.mark.parametrize(
    "fault",
    ["TOO_MANY_REQUESTS", "SERVER_ERROR", "TRUNCATED_PAGE", "HEADLESS_PAGE", "DUPLICATE_PAGE", "TRUNCATED_BODY"],
)
def test_a_passing_fault_in_mid_range_costs_no_candle(
    start: Start, replay: ModuleType, exchange: str, fault: str, sources: dict[str, ExchangeSource]
) -> None:
    start(faults={1: replay.Fault[fault]})

    frame = fetched(sources[exchange])

    assert opens(frame) == [START + i * STEP for i in range(BARS)]
    start()
    assert frame.equals(fetched(sources[exchange]))


@BOTH
def test_several_faults_in_a_row_are_survived(
    start: Start, replay: ModuleType, exchange: str, sources: dict[str, ExchangeSource]
) -> None:
    faults = [replay.Fault.TOO_MANY_REQUESTS, replay.Fault.SERVER_ERROR, replay.Fault.TRUNCATED_BODY]
    start(faults=dict(enumerate(faults)))

    assert fetched(sources[exchange]).height == BARS


@BOTH
@pytest.mark.parametrize("fault", ["TOO_MANY_REQUESTS", "SERVER_ERROR", "TRUNCATED_BODY"])
def test_a_fault_that_does_not_pass_ends_in_an_error_after_the_attempts(
    start: Start, replay: ModuleType, exchange: str, fault: str, sources: dict[str, ExchangeSource]
) -> None:
    server = start(fault_forever=replay.Fault[fault])

    with pytest.raises(SourceUnreachableError, match=r"in up to 4 attempts.*LEVIBOT_SOURCE=recorded.*simulated"):
        fetched(sources[exchange])
    assert len(server.asked("klines")) == IMPATIENT.attempts


def test_an_exchange_that_fails_again_and_again_is_left_alone_for_a_while(start: Start, replay: ModuleType) -> None:
    server = start()
    policy = replace(IMPATIENT, open_after=2, open_s=0.5)
    source = open_exchange(("binance",), server.base_url("binance"), policy)
    server = start(fault_forever=replay.Fault.SERVER_ERROR)

    for _ in range(2):
        with pytest.raises(SourceUnreachableError, match="in up to 4 attempts"):
            fetched(source)
    with pytest.raises(SourceUnreachableError, match=r"to several requests \(binance: CircuitOpenError"):
        fetched(source)
    assert len(server.asked("klines")) == 2 * IMPATIENT.attempts

    start()
    time.sleep(policy.open_s)
    assert fetched(source).height == BARS


@BOTH
def test_an_exchange_that_repeats_one_page_for_ever_is_left_after_a_bounded_number_of_requests(
    start: Start, replay: ModuleType, exchange: str, sources: dict[str, ExchangeSource]
) -> None:
    server = start(faults={0: None}, fault_forever=replay.Fault.DUPLICATE_PAGE)

    frame = fetched(sources[exchange])

    page = 500 if exchange == "mexc" else 1000
    assert opens(frame) == [START + i * STEP for i in range(page)]
    assert len(server.asked("klines")) <= 2 * -(-BARS // page)


@BOTH
def test_a_gap_stays_a_gap_and_is_reported(start: Start, exchange: str, sources: dict[str, ExchangeSource]) -> None:
    candles = [candle for candle in series(BARS) if not 600 <= (candle[0] - START) // STEP < 640]

    start(candles)

    frame = fetched(sources[exchange])

    assert opens(frame) == [candle[0] for candle in candles[:-1]]
    (finding,) = assess_candles(frame, FIVE, [], NOW).of("gaps")
    assert (finding.severity, finding.count) == ("error", 40)
    assert (finding.start_ms, finding.end_ms) == (START + 600 * STEP, START + 640 * STEP)


def test_a_gap_longer_than_several_pages_is_crossed(start: Start, sources: dict[str, ExchangeSource]) -> None:
    kept = [candle for candle in series(BARS) if not 100 <= (candle[0] - START) // STEP < 1_700]
    start(kept)

    frame = fetched(sources["mexc"])

    assert opens(frame) == [candle[0] for candle in kept[:-1]]


def test_history_that_begins_late_is_given_from_its_beginning_with_a_warning(
    start: Start, caplog: pytest.LogCaptureFixture, sources: dict[str, ExchangeSource]
) -> None:
    start(series(BARS)[1_500:])

    with caplog.at_level(logging.WARNING):
        frame = fetched(sources["mexc"])

    assert opens(frame) == [START + i * STEP for i in range(1_500, BARS)]
    assert "mexc gave no 5m candles of BTC/USDT before 2025-01-06" in caplog.text


def test_a_row_that_came_twice_is_kept_once_as_it_was_last(start: Start, sources: dict[str, ExchangeSource]) -> None:
    first, *rest = series(20)
    corrected = (first[0], first[1], first[2] + 1, *first[3:])
    start([first, corrected, *rest])

    frame = fetched(sources["binance"], START + 20 * STEP)

    assert frame.height == 20
    assert frame["high"][0] == corrected[2]


@pytest.mark.parametrize(("exchange", "contract_size"), [("mexc", 0.0001), ("binance", 1.0)])
def test_candles_of_the_perpetual_have_their_volume_in_the_base_currency(
    start: Start, exchange: str, contract_size: float, sources: dict[str, ExchangeSource]
) -> None:
    start()

    frame = sources[exchange].candles("BTC/USDT", "perp", FIVE, START, START + 10 * STEP)

    assert frame["volume"].to_list() == [candle[5] * contract_size for candle in series(10)[:10]]


@BOTH
@pytest.mark.parametrize("market", ["spot", "perp"])
def test_a_symbol_the_exchange_does_not_list_is_named(
    exchange: str, market: str, sources: dict[str, ExchangeSource]
) -> None:
    with pytest.raises(UnknownSymbolError, match=f"{exchange} lists on its {market} market, was 'NOPE/USDT'"):
        sources[exchange].candles("NOPE/USDT", market, FIVE, START, NOW)


def test_a_timeframe_the_exchange_lacks_is_a_configuration_error(
    sources: dict[str, ExchangeSource],
) -> None:
    with pytest.raises(ConfigurationError, match=r"LEVIBOT_TIMEFRAME expected a timeframe that mexc has.*was 20m"):
        sources["mexc"].candles("BTC/USDT", "spot", Timeframe.parse("20m"), START, NOW)


@BOTH
def test_funding_is_paged_through_and_known_once_published(
    start: Start, exchange: str, sources: dict[str, ExchangeSource]
) -> None:
    late = 2 if exchange == "binance" else 0  # Binance stamps a settlement some milliseconds late
    published = [(START - 200 * DAY + i * 8 * HOUR + late, 1e-4 + i * 1e-6) for i in range(620)]
    server = start(funding=published)

    frame = sources[exchange].funding_rates("BTC/USDT", START - 190 * DAY, START)

    assert FUNDING_RATES.violations(frame) == []
    assert opens(frame) == [START - 190 * DAY + i * 8 * HOUR for i in range(190 * 3)]
    assert frame["rate"].to_list() == pytest.approx([1e-4 + i * 1e-6 for i in range(30, 600)], abs=1e-9)
    assert (frame["known_at"] - frame["ts"]).dt.total_milliseconds().unique().to_list() == [late]
    assert len(server.asked("unding")) <= 8


@BOTH
@pytest.mark.parametrize("fault", ["TOO_MANY_REQUESTS", "TRUNCATED_PAGE", "DUPLICATE_PAGE", "TRUNCATED_BODY"])
def test_a_passing_fault_costs_no_funding_rate(
    start: Start, replay: ModuleType, exchange: str, fault: str, sources: dict[str, ExchangeSource]
) -> None:
    published = [(START - 80 * DAY + i * 8 * HOUR, 1e-4) for i in range(240)]
    first_page = 0 if exchange == "binance" else 1  # Binance sends all of these in one page
    start(funding=published, faults={first_page: replay.Fault[fault]})

    frame = sources[exchange].funding_rates("BTC/USDT", START - 80 * DAY, START)

    assert opens(frame) == [at for at, _ in published]


def test_funding_of_a_symbol_without_a_perpetual_is_empty_with_a_warning(
    start: Start, caplog: pytest.LogCaptureFixture, sources: dict[str, ExchangeSource]
) -> None:
    start()
    with caplog.at_level(logging.WARNING):
        frame = sources["binance"].funding_rates("ADA/USDT", START, NOW)

    assert frame.equals(FUNDING_RATES.empty())
    assert "binance has no funding history of ADA/USDT" in caplog.text


def test_fear_and_greed_of_ended_days_is_dated_with_the_day_and_known_after_it(
    start: Start, sources: dict[str, ExchangeSource]
) -> None:
    server = start()
    today = NOW - NOW % DAY
    server.book.fear_greed = [
        {"value": str(40 + i), "value_classification": "Fear", "timestamp": str((today - i * DAY) // 1000)}
        for i in range(5)
    ]

    frame = sources["binance"].fear_greed(today - 3 * DAY, NOW)

    assert FEAR_GREED.violations(frame) == []
    assert opens(frame) == [today - 3 * DAY, today - 2 * DAY, today - DAY]
    assert frame["value"].to_list() == [43, 42, 41]
    assert (frame["known_at"] - frame["ts"]).dt.total_milliseconds().unique().to_list() == [DAY]


def test_fear_and_greed_that_is_not_answered_stays_empty_with_a_warning(
    start: Start, caplog: pytest.LogCaptureFixture, sources: dict[str, ExchangeSource]
) -> None:
    server = start()
    server.book.fear_greed = None

    with caplog.at_level(logging.WARNING):
        frame = sources["binance"].fear_greed(START, NOW)

    assert frame.equals(FEAR_GREED.empty())
    assert "fear and greed index" in caplog.text


def test_the_first_exchange_that_answers_is_taken(start: Start) -> None:
    source = open_exchange(("bybit", "okx", "binance", "mexc"), start().base_url("binance"), IMPATIENT)

    assert source.identity.key == "exchange-binance"
    assert source.identity.venue == "binance"
    assert source.identity.kind == "exchange"
    assert [halt.venue for halt in source.known_halts()]


def test_when_no_exchange_answers_each_is_named_with_its_reason() -> None:
    with pytest.raises(SourceUnreachableError) as caught:
        open_exchange(("mexc", "binance"), "http://127.0.0.1:9", IMPATIENT)

    for part in ("mexc:", "binance:", "within 3 s", "LEVIBOT_SOURCE=recorded", "LEVIBOT_SOURCE=simulated"):
        assert part in str(caught.value)


def test_an_exchange_that_hangs_is_given_up(start: Start) -> None:
    server = start()
    with server.silence(), pytest.raises(SourceUnreachableError, match=r"mexc: TimeoutError no answer in time"):
        open_exchange(("mexc",), server.base_url("mexc"), IMPATIENT, answer_within_s=0.1)


def test_an_exchange_that_ccxt_does_not_know_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"LEVIBOT_EXCHANGES expected .* was 'nowhere'"):
        open_exchange(("nowhere",))


def test_the_settings_open_the_exchange_and_a_replay_of_it(start: Start) -> None:
    settings = Settings(source="exchange", exchanges=("binance",), exchange_base_url=start().base_url("binance"))

    assert open_source(settings).identity.key == "exchange-binance"


def test_auto_takes_an_exchange_that_answers_and_else_the_simulated_market(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEVIBOT_MARKET_DATA", raising=False)
    reachable = Settings(source="auto", exchanges=("binance",), exchange_base_url=start().base_url("binance"))
    unreachable = Settings(source="auto", exchanges=("mexc",), exchange_base_url="http://127.0.0.1:9")

    assert open_source(reachable).identity.kind == "exchange"
    with caplog.at_level(logging.WARNING):
        assert open_source(unreachable).identity.kind == "simulated"
    assert "No exchange answered, taking the simulated market" in caplog.text


def test_the_replay_answers_in_the_shapes_that_binance_was_recorded_with(
    replay: ModuleType, exchange_fixtures: Path
) -> None:
    recorded = json.loads((exchange_fixtures / "binance_recorded_public_endpoints.json").read_text("utf-8"))
    candle = series(1)[0]

    for path in ("/api/v3/klines", "/fapi/v1/klines"):
        assert_same_row(replay.kline("binance", candle, STEP), recorded[path][0]["data"][0])
    spot = recorded["/api/v3/exchangeInfo"][0]["data"]["symbols"][0]
    assert_same_fields(replay.spot_symbol("binance", "BTCUSDT"), spot)
    assert_same_fields(replay.futures_symbol("BTCUSDT"), recorded["/fapi/v1/exchangeInfo"][0]["data"]["symbols"][0])
    rate = recorded["/fapi/v1/fundingRate"][0]["data"][0]
    assert_same_fields(replay.binance_rate("BTCUSDT", START, 1e-4), rate)


def test_the_replay_answers_in_the_shapes_that_mexc_was_recorded_with(
    replay: ModuleType, exchange_fixtures: Path
) -> None:
    folder = exchange_fixtures / "mexc"
    klines = json.loads((folder / "api_v3_klines__BTCUSDT_60m_limit1.json").read_text("utf-8"))
    info = json.loads((folder / "api_v3_exchangeInfo.json").read_text("utf-8"))
    detail = json.loads((folder / "contract_detail.json").read_text("utf-8"))
    sample = exchange_fixtures / "mexc_net_samples" / "Endpoints__FuturesApi__ExchangeData__GetFundingRateHistory.txt"
    history = json.loads(sample.read_text("utf-8").split("\n", 3)[3])

    assert_same_row(replay.kline("mexc", series(1)[0], STEP), klines[0])
    assert klines[0][6] - klines[0][0] == HOUR
    assert_same_fields(replay.spot_symbol("mexc", "BTCUSDT"), info["symbols"][0])
    assert_same_fields(replay.contract("BTCUSDT"), detail["data"][0])
    assert_same_fields(replay.mexc_rate("BTC_USDT", START, 1e-4), history["data"]["resultList"][0])


def assert_same_row(ours: list[Any], recorded: list[Any]) -> None:
    assert [type(value) for value in ours] == [type(value) for value in recorded]


def assert_same_fields(ours: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert ours.keys() <= recorded.keys()
    assert {name: type(value) for name, value in ours.items()} == {name: type(recorded[name]) for name in ours}
