"""A replay of two exchanges on 127.0.0.1: the public REST endpoints that ccxt asks of MEXC and of Binance.

Candles come from memory. Requests for klines can be answered with faults, by their ordinal number. `base_url("mexc")`
and `base_url("binance")` are what `LEVIBOT_EXCHANGE_BASE_URL` would be set to.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Candle = tuple[int, float, float, float, float, float]
Query = dict[str, str]


class Fault(Enum):
    """What may go wrong with one answer."""

    TOO_MANY_REQUESTS = "HTTP 429 with Retry-After"
    SERVER_ERROR = "HTTP 500"
    TRUNCATED_PAGE = "the first half of the rows"
    HEADLESS_PAGE = "the second half of the rows"
    DUPLICATE_PAGE = "the rows of the answer before"
    TRUNCATED_BODY = "JSON cut off in the middle"


@dataclass
class Book:
    """What the exchange knows. `candles` may have gaps, and may end with a bar that is still open at `now_ms`."""

    candles: dict[str, list[Candle]]
    step_ms: int
    now_ms: int
    funding: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    fear_greed: list[dict[str, str]] = field(default_factory=list)


@dataclass
class ReplayExchange:
    """The running server. Use it as a context manager."""

    book: Book
    faults: dict[int, Fault] = field(default_factory=dict)
    """Fault by ordinal (from 0) of a request for klines or funding history."""
    fault_forever: Fault | None = None
    """Fault of every request that has none in `faults`."""
    requests: list[str] = field(default_factory=list)
    """Paths with queries, in order."""

    def __post_init__(self) -> None:
        self.reset(self.book, self.faults, self.fault_forever)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def base_url(self, exchange: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{exchange}"

    def reset(self, book: Book, faults: dict[int, Fault] | None = None, fault_forever: Fault | None = None) -> None:
        """Begin anew with another book and other faults, at the same address."""
        self.book, self.faults, self.fault_forever = book, faults or {}, fault_forever
        self.requests.clear()
        self._history_requests = 0
        self._rows_before: list[Any] = []

    @contextmanager
    def silence(self) -> Iterator[None]:
        """While it lasts, no request is answered."""
        with self._lock:
            yield

    def asked(self, fragment: str) -> list[str]:
        """The requests whose path or query holds the fragment."""
        return [request for request in self.requests if fragment in request]

    def answer(self, path: str, query: Query) -> tuple[int, dict[str, str], str]:
        """Status, extra headers and body of the answer to one request."""
        with self._lock:
            self.requests.append(path + "?" + "&".join(f"{name}={value}" for name, value in query.items()))
            exchange, _, endpoint = path.strip("/").partition("/")
            parts = endpoint.split("/")
            route, symbol = (endpoint, "") if endpoint in ROUTES else ("/".join(parts[:-1]), parts[-1])
            respond = ROUTES.get(route)
            if respond is None:
                return 404, {}, json.dumps({"code": 404, "msg": f"no such endpoint: {path}"})
            payload, rows = respond(self.book, exchange, {**query, **({"symbol": symbol} if symbol else {})})
            if rows is None:
                return 200, {}, json.dumps(payload)
            fault = self.faults.get(self._history_requests, self.fault_forever)
            self._history_requests += 1
            return self._faulty(fault, payload, rows)

    def _faulty(self, fault: Fault | None, payload: Any, rows: list[Any]) -> tuple[int, dict[str, str], str]:
        if fault is Fault.TOO_MANY_REQUESTS:
            return 429, {"Retry-After": "0"}, json.dumps({"code": -1003, "msg": "Too many requests"})
        if fault is Fault.SERVER_ERROR:
            return 500, {}, "<html>Internal Server Error</html>"
        served = list(rows)
        if fault is Fault.TRUNCATED_PAGE:
            served = served[: max(1, len(served) // 2)]
        if fault is Fault.HEADLESS_PAGE:
            served = served[len(served) // 2 :]
        if fault is Fault.DUPLICATE_PAGE:
            served = self._rows_before
        self._rows_before = served
        rows[:] = served
        body = json.dumps(payload)
        return 200, {}, body[: len(body) // 2] if fault is Fault.TRUNCATED_BODY else body

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        replay = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                address = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(address.query).items()}
                status, headers, body = replay.answer(address.path, query)
                content = body.encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name http.server uses
                """Nothing on stderr."""

        return Handler


Response = tuple[Any, list[Any] | None]
"""A payload, and the list inside it that page faults apply to."""


def _within(
    rows: Sequence[Any], time_of: Callable[[Any], int], query: Query, start: str, end: str, limit: int
) -> list[Any]:
    first, last = int(query.get(start, 0)), int(query.get(end, 2**62))
    return [row for row in rows if first <= time_of(row) <= last][: min(limit, int(query.get("limit", limit)))]


def _klines(book: Book, exchange: str, query: Query) -> Response:
    limit = 500 if exchange == "mexc" else 1000
    candles = _within(book.candles[query["symbol"]], lambda row: row[0], query, "startTime", "endTime", limit)
    rows = [kline(exchange, candle, book.step_ms) for candle in candles]
    return rows, rows


def kline(exchange: str, candle: Candle, step_ms: int) -> list[Any]:
    """One row as the exchange writes it: 8 columns at MEXC, 12 at Binance."""
    opened, *values = candle
    texts, turnover = [f"{value:.8f}" for value in values], f"{values[3] * values[4]:.8f}"
    if exchange == "mexc":
        return [opened, *texts, opened + step_ms, turnover]
    return [opened, *texts, opened + step_ms - 1, turnover, 10, texts[4], turnover, "0"]


def _contract_klines(book: Book, _exchange: str, query: Query) -> Response:
    seconds = {name: str(int(query[name]) * 1000) for name in ("start", "end") if name in query}
    candles = _within(book.candles[query["symbol"].replace("_", "")], lambda row: row[0], seconds, "start", "end", 2000)
    columns = ("time", "open", "high", "low", "close", "vol")
    data = {name: [candle[index] for candle in candles] for index, name in enumerate(columns)}
    data["time"] = [candle[0] // 1000 for candle in candles]
    return {"success": True, "code": 0, "data": data}, None


def _exchange_info(book: Book, exchange: str, _query: Query) -> Response:
    symbols = [spot_symbol(exchange, symbol) for symbol in book.candles]
    return {"timezone": "UTC", "serverTime": book.now_ms, "rateLimits": [], "symbols": symbols}, None


def spot_symbol(exchange: str, symbol: str) -> dict[str, Any]:
    """An entry of exchangeInfo."""
    base = symbol.removesuffix("USDT")
    common = {"symbol": symbol, "baseAsset": base, "quoteAsset": "USDT", "isSpotTradingAllowed": True, "filters": []}
    if exchange == "mexc":
        precision = {"baseAssetPrecision": 6, "quoteAssetPrecision": 2, "baseSizePrecision": "0.000001"}
        fees = {"makerCommission": "0", "takerCommission": "0.0002"}
        return {**common, **precision, **fees, "status": "1", "permissions": ["SPOT"]}
    return {**common, "status": "TRADING", "baseAssetPrecision": 8, "quotePrecision": 8, "permissions": []}


def _futures_info(book: Book, _exchange: str, _query: Query) -> Response:
    return {"symbols": [futures_symbol(symbol) for symbol in book.candles]}, None


def futures_symbol(symbol: str) -> dict[str, Any]:
    """An entry of Binance's futures exchangeInfo."""
    base = symbol.removesuffix("USDT")
    return {
        "symbol": symbol,
        "pair": symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": 2,
        "quantityPrecision": 3,
        "filters": [],
    }


def _contract_detail(book: Book, _exchange: str, _query: Query) -> Response:
    return {"success": True, "code": 0, "data": [contract(symbol) for symbol in book.candles]}, None


def contract(symbol: str) -> dict[str, Any]:
    """An entry of MEXC's contract detail; one contract is a ten-thousandth of the base."""
    base = symbol.removesuffix("USDT")
    return {
        "symbol": f"{base}_USDT",
        "baseCoin": base,
        "quoteCoin": "USDT",
        "settleCoin": "USDT",
        "contractSize": 0.0001,
        "priceUnit": 0.1,
        "volUnit": 1,
        "minVol": 1,
        "maxVol": 530000,
        "takerFeeRate": 0.0002,
        "makerFeeRate": 0,
        "state": 0,
    }


def _funding(book: Book, _exchange: str, query: Query) -> Response:
    symbol = query["symbol"]
    rates = _within(book.funding.get(symbol, []), lambda row: row[0], query, "startTime", "endTime", 1000)
    rows = [binance_rate(symbol, published, rate) for published, rate in rates]
    return rows, rows


def binance_rate(symbol: str, published: int, rate: float) -> dict[str, Any]:
    """An entry of Binance's funding history."""
    return {"symbol": symbol, "fundingTime": published, "fundingRate": f"{rate:.8f}"}


def _contract_funding(book: Book, _exchange: str, query: Query) -> Response:
    newest_first = sorted(book.funding.get(query["symbol"].replace("_", ""), []), reverse=True)
    size, page = int(query.get("page_size", 20)), int(query.get("page_num", 1))
    rows = [mexc_rate(query["symbol"], *entry) for entry in newest_first[(page - 1) * size : page * size]]
    data = {"pageSize": size, "totalCount": len(newest_first), "totalPage": -(-len(newest_first) // size)}
    return {"success": True, "code": 0, "data": {**data, "currentPage": page, "resultList": rows}}, rows


def mexc_rate(symbol: str, published: int, rate: float) -> dict[str, Any]:
    """An entry of MEXC's funding history."""
    return {"symbol": symbol, "fundingRate": rate, "settleTime": published}


def _time(book: Book, _exchange: str, _query: Query) -> Response:
    return {"serverTime": book.now_ms}, None


def _fear_greed(book: Book, _exchange: str, _query: Query) -> Response:
    return {"name": "Fear and Greed Index", "data": book.fear_greed, "metadata": {"error": None}}, None


ROUTES: dict[str, Callable[[Book, str, Query], Response]] = {
    "api/v3/time": _time,
    "api/v3/exchangeInfo": _exchange_info,
    "api/v3/klines": _klines,
    "api/v1/contract/detail": _contract_detail,
    "api/v1/contract/kline": _contract_klines,
    "api/v1/contract/funding_rate/history": _contract_funding,
    "fapi/v1/exchangeInfo": _futures_info,
    "fapi/v1/klines": _klines,
    "fapi/v1/fundingRate": _funding,
    "fng": _fear_greed,
}
