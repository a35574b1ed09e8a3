"""A live exchange as a source: candles and funding page by page through ccxt, and the fear and greed index.

How a single request is made and retried is in `levibot_core.market.sources.ccxt_client`. A gap stays a gap: it is
believed once two answers agree on it, and it is reported by `levibot_core.market.quality`, never filled.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import ccxt
import polars as pl

from levibot_core.errors import ConfigurationError, SourceUnreachableError, UnknownSymbolError
from levibot_core.market.halts import Halt, known_halts
from levibot_core.market.sources.base import Clock, SourceIdentity, system_clock
from levibot_core.market.sources.ccxt_client import Client, MalformedPageError, RetryPolicy, unreachable
from levibot_core.market.sources.fear_greed_api import fetch_fear_greed
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import CANDLES, FUNDING_RATES, TIMESTAMP, Table

_log = logging.getLogger(__name__)

# Rows that one request surely gets: okx caps older candles below what it documents, mexc sends 500 of 1000.
_CANDLES_PER_PAGE = {"binance": 1000, "bybit": 1000, "kraken": 720, "okx": 100}
_OTHER_CANDLES_PER_PAGE = 500
_FUNDING_PER_PAGE = {"binance": 1000, "bybit": 200}
_OTHER_FUNDING_PER_PAGE = 100
# Exchanges that give the newest rates first: what to ask for a page, by its number and the oldest rate so far.
_BACKWARDS: dict[str, Callable[[int, int], dict[str, int]]] = {
    "mexc": lambda page, _: {"page_num": page},
    "okx": lambda _, oldest: {"after": oldest},
}
_SETTLEMENT_GRID_MS = 60_000
_SETTLEMENT_INTERVAL_MS = 8 * 3_600_000
_PAGES_BETWEEN_NEWS = 20

Candle = tuple[int, float, float, float, float, float]
"""Open time (UTC ms), open, high, low, close, volume."""
Funding = tuple[int, float]
"""Time of publication (UTC ms), rate."""
Row = TypeVar("Row")


class ExchangeSource:
    """A `MarketSource` over the public endpoints of one exchange.

    Args:
        client: The exchange, its markets loaded.
        retry: How patient to be with the publisher of the index.
        base_url: Replaces the address of the index too, for a replay.
        clock: Current time in UTC milliseconds, by which bars are closed; the exchange's clock, if known.
    """

    def __init__(self, client: Client, retry: RetryPolicy, base_url: str | None, clock: Clock = system_clock) -> None:
        self._client, self._retry, self._base_url, self._clock = client, retry, base_url, clock
        self.identity = SourceIdentity(
            "exchange",
            f"exchange-{client.id}",
            client.id,
            f"{client.id}, public endpoints" + (f" replayed by {base_url}" if base_url else ""),
        )

    def candles(self, symbol: str, market: str, timeframe: Timeframe, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Closed candles that open in [start_ms, end_ms), each once, known from their close on.

        Raises:
            UnknownSymbolError: the exchange does not list the symbol on that market.
            ConfigurationError: the exchange has no such timeframe.
            SourceUnreachableError: it stopped answering.
        """
        listed = self._market(symbol, market)
        end_ms = min(end_ms, self.latest_close_ms(symbol, market, timeframe))
        rows: dict[int, Candle] = {}
        for page in self._candle_pages(listed, timeframe, start_ms, end_ms):
            rows.update((candle[0], candle) for candle in page if start_ms <= candle[0] < end_ms)
        if rows and min(rows) >= start_ms + timeframe.milliseconds:
            first = datetime.fromtimestamp(min(rows) / 1000, UTC)
            _log.warning("%s gave no %s candles of %s before %s", self._client.id, timeframe, symbol, first)
        # mexc counts the volume of its perpetuals in contracts.
        scale = float(listed["contractSize"]) if listed["swap"] and self._client.id == "mexc" else 1.0
        names = ["ts", "open", "high", "low", "close", "volume"]
        schema = {"ts": pl.Int64, **dict.fromkeys(names[1:], pl.Float64)}
        frame = pl.DataFrame(list(rows.values()), schema=schema, orient="row")
        known_at = (pl.col("ts") + timeframe.milliseconds).alias("known_at")
        return self._stamped(frame.with_columns(pl.col("volume") * scale, known_at), symbol, CANDLES)

    def funding_rates(self, symbol: str, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Funding of the perpetual settled in [start_ms, end_ms); empty with a warning where there is none.

        The settlement time is the published one to the minute; a rate is known once it was published.

        Raises:
            SourceUnreachableError: the exchange stopped answering.
        """
        api, perpetual = self._client.api, _perpetual(symbol)
        if not api.has["fetchFundingRateHistory"] or perpetual not in api.markets:
            _log.warning("%s has no funding history of %s: funding features stay empty", self._client.id, symbol)
            return FUNDING_RATES.empty()
        rows: dict[int, tuple[int, float, int]] = {}
        for page in self._funding_pages(perpetual, start_ms, end_ms):
            for published, rate in page:
                settled = round(published / _SETTLEMENT_GRID_MS) * _SETTLEMENT_GRID_MS
                rows[settled] = (settled, rate, max(settled, published))
        schema = {"ts": pl.Int64, "rate": pl.Float64, "known_at": pl.Int64}
        frame = pl.DataFrame(list(rows.values()), schema=schema, orient="row")
        inside = frame.filter(pl.col("ts") >= start_ms, pl.col("ts") < end_ms, pl.col("ts") <= self._clock())
        return self._stamped(inside, symbol, FUNDING_RATES)

    def fear_greed(self, start_ms: int, end_ms: int) -> pl.DataFrame:
        """The index of days that have ended, from its publisher; empty with a warning when that does not answer."""
        return fetch_fear_greed(start_ms, end_ms, self._clock(), self._retry, self._base_url)

    def known_halts(self) -> Sequence[Halt]:
        """The halts on record for this exchange."""
        return known_halts(self._client.id)

    def latest_close_ms(self, symbol: str, market: str, timeframe: Timeframe) -> int:  # noqa: ARG002 - the same for all
        """The last bar boundary by the exchange's clock."""
        return timeframe.floor(self._clock())

    def _market(self, symbol: str, market: str) -> dict[str, Any]:
        name = symbol if market == "spot" else _perpetual(symbol)
        try:
            listed: dict[str, Any] = self._client.api.market(name)
        except ccxt.BadSymbol as error:
            raise UnknownSymbolError(
                f"Expected a symbol that {self._client.id} lists on its {market} market, was {symbol!r}."
            ) from error
        return listed

    def _candle_pages(
        self, listed: dict[str, Any], timeframe: Timeframe, start_ms: int, end_ms: int
    ) -> Iterator[list[Candle]]:
        """Pages from start to end. Each step goes past the last candle seen, or past an interval without any."""
        name, limit = self._timeframe_name(timeframe), _CANDLES_PER_PAGE.get(self._client.id, _OTHER_CANDLES_PER_PAGE)
        step = timeframe.milliseconds
        since, pages = timeframe.floor(start_ms + step - 1), 0
        while since < end_ms:
            page = self._candle_page(listed["symbol"], name, since, limit)
            if not page or page[-1][0] - since != (len(page) - 1) * step:
                again = self._candle_page(listed["symbol"], name, since, limit)
                page = sorted({candle[0]: candle for candle in (*page, *again)}.values())
            yield page
            since = page[-1][0] + step if page else since + limit * step
            pages += 1
            if pages % _PAGES_BETWEEN_NEWS == 0:
                share = min(1.0, (since - start_ms) / (end_ms - start_ms))
                _log.info("%s %s %s: %.0f %% fetched", self._client.id, listed["symbol"], timeframe, 100 * share)

    def _candle_page(self, name: str, timeframe: str, since: int, limit: int) -> list[Candle]:
        """One page, sorted, each time once. ccxt has dropped rows before `since`: a stale page comes out empty."""

        def request() -> list[Candle]:
            return _read_page(self._client.api.fetch_ohlcv(name, timeframe, since=since, limit=limit), _as_candle)

        page = {candle[0]: candle for candle in self._client.ask(request)}
        return sorted(page.values())

    def _funding_pages(self, perpetual: str, start_ms: int, end_ms: int) -> Iterator[list[Funding]]:
        """Pages of published rates, sorted; forwards from the start, or backwards from now."""
        limit = _FUNDING_PER_PAGE.get(self._client.id, _OTHER_FUNDING_PER_PAGE)
        parameters = _BACKWARDS.get(self._client.id)
        if parameters is None:
            since = start_ms
            while since < end_ms:
                page = self._funding_page(perpetual, limit, since=since)
                yield page
                since = page[-1][0] + 1 if page else since + limit * _SETTLEMENT_INTERVAL_MS
        else:
            oldest, number = max(end_ms, self._clock()) + 1, 1
            while page := self._funding_page(perpetual, limit, before=oldest, extra=parameters(number, oldest)):
                yield page
                oldest, number = page[0][0], number + 1
                if oldest <= start_ms:
                    return

    def _funding_page(
        self,
        perpetual: str,
        limit: int,
        since: int | None = None,
        before: int | None = None,
        extra: dict[str, int] | None = None,
    ) -> list[Funding]:
        """One page, only rates published before `before`; a short one is asked for twice before it is believed."""

        def request() -> list[Funding]:
            answer = self._client.api.fetch_funding_rate_history(perpetual, since, limit, extra or {})
            return [row for row in _read_page(answer, _as_funding) if before is None or row[0] < before]

        page = set(self._client.ask(request))
        return sorted(page if len(page) >= limit else page.union(self._client.ask(request)))

    def _timeframe_name(self, timeframe: Timeframe) -> str:
        api = self._client.api
        for name in api.timeframes:
            if api.parse_timeframe(name) * 1000 == timeframe.milliseconds:
                return str(name)
        raise ConfigurationError(
            f"LEVIBOT_TIMEFRAME expected a timeframe that {self._client.id} has ({', '.join(api.timeframes)}), "
            f"was {timeframe}."
        )

    def _stamped(self, frame: pl.DataFrame, symbol: str, table: Table) -> pl.DataFrame:
        return table.enforce(
            frame.with_columns(
                pl.col("ts").cast(TIMESTAMP),
                pl.col("known_at").cast(TIMESTAMP),
                pl.lit(symbol).alias("symbol"),
                pl.lit(0, pl.Int32).alias("revision"),
                pl.lit(self._client.id).alias("venue"),
            )
        )


def open_exchange(
    exchanges: Sequence[str],
    base_url: str | None = None,
    retry: RetryPolicy | None = None,
    answer_within_s: float = 3.0,
) -> ExchangeSource:
    """The first of the exchanges, in their order, that tells its time within `answer_within_s` and lists its markets.

    All are asked at once, so the wait is the same for one and for many. Bars are closed by the clock of the exchange.

    Args:
        exchanges: Names of exchanges in ccxt.
        base_url: Replaces scheme and host of every address, for a replay; None for the real exchanges.
        retry: How patient to be with the exchange that is chosen.
        answer_within_s: Seconds to wait for a first answer.

    Raises:
        ConfigurationError: ccxt does not know one of the exchanges.
        SourceUnreachableError: none answered; the message lists what each one said.
    """
    retry = retry or RetryPolicy()
    probes = [_Probe(Client(exchange, base_url, retry)) for exchange in exchanges]
    deadline = time.monotonic() + answer_within_s
    causes: dict[str, Exception] = {}
    for probe in probes:
        probe.join(max(0.0, deadline - time.monotonic()))
        if probe.offset_ms is None:
            causes[probe.client.id] = probe.failure or TimeoutError("no answer in time")
            continue
        try:
            probe.client.ask(probe.client.api.load_markets)
        except SourceUnreachableError as error:
            causes[probe.client.id] = error
            continue
        return ExchangeSource(probe.client, retry, base_url, _clock_ahead_by(probe.offset_ms))
    raise unreachable(causes, f"within {answer_within_s:g} s")


class _Probe(threading.Thread):
    """Asks an exchange for its time. A daemon, so that an address that hangs does not keep the process alive."""

    def __init__(self, client: Client) -> None:
        super().__init__(name=f"probe-{client.id}", daemon=True)
        self.client = client
        self.offset_ms: int | None = None
        """The exchange's clock minus ours, once it has answered."""
        self.failure: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            server_ms = int(self.client.ask(self.client.api.fetch_time, insist=False))
            self.offset_ms = server_ms - system_clock()
        except Exception as error:  # whatever it is, it is told by the thread that waits
            self.failure = error


def _clock_ahead_by(offset_ms: int) -> Clock:
    return lambda: system_clock() + offset_ms


def _read_page(answer: Any, read: Callable[[Any], Row]) -> list[Row]:
    try:
        return [read(row) for row in answer]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise MalformedPageError(f"expected a page of rows, was {str(answer)[:80]!r}") from error


def _as_candle(row: Sequence[Any]) -> Candle:
    opened, *values = row[:6]
    first, high, low, last, volume = map(float, values)
    return int(opened), first, high, low, last, volume


def _as_funding(row: dict[str, Any]) -> Funding:
    return int(row["timestamp"]), float(row["fundingRate"])


def _perpetual(symbol: str) -> str:
    return f"{symbol}:{symbol.partition('/')[2]}"
