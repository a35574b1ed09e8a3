"""`/features`: the newest features of one symbol or of many, as a forecast would read them."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator

from levibot_core.errors import LevibotError, UnknownSymbolError
from levibot_core.market.symbols import normalize_symbol
from levibot_core.market.timeframe import Timeframe
from levibot_core.stores.online import FeatureVector, absence_of
from levibot_serving.contract_features import Features, FeaturesBatch, FeaturesItem
from levibot_serving.contract_forecasts import LARGEST_BATCH, ForecastError, spelled_inside
from levibot_serving.deps import Services, ServicesDep, read_store
from levibot_serving.errors import ApiError, documented, meaning_of
from levibot_serving.predictor import doubt_about_age, utc

router = APIRouter(tags=["features"])

SymbolPath = Annotated[
    str,
    Path(min_length=3, max_length=30, description="BTCUSDT, BTC-USDT or BTC/USDT", examples=["BTCUSDT"]),
    AfterValidator(spelled_inside),
]
SymbolsQuery = Annotated[
    str, Query(min_length=3, max_length=2000, description="Symbols, comma-separated", examples=["BTCUSDT,ETHUSDT"])
]
# As long as all the names there are, and not so long that the server would not take the address.
NamesQuery = Annotated[
    str | None,
    Query(max_length=10_000, pattern=r"^[a-z0-9_, ]*$", description="Features to give, comma-separated; all without"),
]


@router.get("/features", response_model=FeaturesBatch, responses=documented(400, 422, 503))
async def get_features_of_many(services: ServicesDep, symbols: SymbolsQuery, names: NamesQuery = None) -> FeaturesBatch:
    """The newest features of many symbols, read in one round trip; what is wrong with one is in its item."""
    asked = list(dict.fromkeys(part.strip() for part in symbols.split(",") if part.strip()))
    if not 1 <= len(asked) <= LARGEST_BATCH:
        raise ApiError(400, "too_many_symbols", f"Expected 1 to {LARGEST_BATCH} symbols, was {len(asked)}.")
    known = {text: symbol for text in asked if (symbol := _normalized(text)) is not None}
    now_ms = services.now_ms()
    found, absent = await read_store(services, lambda: _read(services, list(known.values()), now_ms))
    items = []
    for text in asked:
        try:
            symbol = known.get(text) or normalize_symbol(text)
            if symbol in absent:
                raise absent[symbol]
            items.append(
                FeaturesItem(symbol=symbol, features=_shown(services, found[symbol], names, now_ms), error=None)
            )
        except ApiError as error:
            refusal = ForecastError(status=error.status, code=error.code, message=str(error), details=error.details)
            items.append(FeaturesItem(symbol=text[:40], features=None, error=refusal))
        except LevibotError as error:
            status, code, details = meaning_of(error)
            refusal = ForecastError(status=status, code=code, message=str(error), details=details)
            items.append(FeaturesItem(symbol=known.get(text, text[:40]), features=None, error=refusal))
    return FeaturesBatch(items=tuple(items))


# `:path`, so that BTC/USDT arrives whole, with its slash escaped or not.
@router.get("/features/{symbol:path}", response_model=Features, responses=documented(400, 404, 422, 503))
async def get_features(services: ServicesDep, symbol: SymbolPath, names: NamesQuery = None) -> Features:
    """The newest features of one symbol, with their age. A feature that is missing is an error, never a zero."""
    now_ms = services.now_ms()
    found, absent = await read_store(services, lambda: _read(services, [symbol], now_ms))
    if symbol in absent:
        raise absent[symbol]
    return _shown(services, found[symbol], names, now_ms)


def _read(
    services: Services, symbols: list[str], now_ms: int
) -> tuple[dict[str, FeatureVector], dict[str, LevibotError]]:
    """The vectors there are, and of each other symbol why there is none."""
    found = services.features.get_many(symbols)
    absent: dict[str, LevibotError] = {}
    for symbol in symbols:
        if symbol not in found:
            absent[symbol] = _absence(services, symbol, now_ms)
    return found, absent


def _absence(services: Services, symbol: str, now_ms: int) -> LevibotError:
    served = services.models.served
    known = services.settings.symbols if served is None else served.bundle.manifest.symbols
    if symbol not in known:
        return UnknownSymbolError(f"Expected one of {', '.join(known)}, was {symbol}.")
    return absence_of(services.features, [symbol], now_ms)


def _shown(services: Services, vector: FeatureVector, names: str | None, now_ms: int) -> Features:
    values = dict(vector.values)
    if names is not None:
        wanted = [name.strip() for name in names.split(",") if name.strip()]
        if strange := [name for name in wanted if name not in values]:
            raise ApiError(
                400,
                "unknown_feature",
                f"Expected features of the set {vector.feature_set}, was {', '.join(strange)[:200]}. "
                "See docs/features.md.",
            )
        values = {name: values[name] for name in wanted}
    age_s = (now_ms - vector.known_at_ms) / 1000
    bar = Timeframe.parse(services.settings.timeframe)
    return Features(
        symbol=vector.symbol,
        ts=utc(vector.ts_ms),
        as_of=utc(vector.known_at_ms),
        feature_age_s=age_s,
        stale=doubt_about_age(age_s, bar, services.settings.feature_grace_seconds) is not None,
        feature_set=vector.feature_set,
        source=vector.source_kind,
        close=vector.close,
        values=values,
    )


def _normalized(text: str) -> str | None:
    try:
        return normalize_symbol(text)
    except LevibotError:
        return None
