"""The shapes of forecasts asked for with a body, and of many at once; one forecast itself is in `.contract`."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, StrictBool, StrictInt

from levibot_core.config import SourceKind
from levibot_core.errors import LevibotError
from levibot_core.market.symbols import normalize_symbol
from levibot_core.market.timeframe import Timeframe
from levibot_serving.contract import PREDICTION_EXAMPLE, Prediction

LARGEST_BATCH = 64
MOST_CANDLES = 5_000
_LATEST_MS = 4_102_444_800_000
"""The year 2100."""


def spelled_inside(text: str) -> str:
    """A symbol in the inside spelling, or a ValueError, as pydantic wants it."""
    try:
        return normalize_symbol(text)
    except LevibotError as error:
        raise ValueError(str(error)) from error


def timeframe_name(text: str) -> str:
    """The name of a timeframe, or a ValueError, as pydantic wants it."""
    try:
        return Timeframe.parse(text).name
    except LevibotError as error:
        raise ValueError(str(error)) from error


Symbol = Annotated[
    str,
    Field(min_length=3, max_length=30, description="BTC/USDT, BTC-USDT or BTCUSDT", examples=["BTC/USDT"]),
    AfterValidator(spelled_inside),
]
TimeframeName = Annotated[
    str,
    Field(max_length=8, description="Must be what the model forecasts on", examples=["5m"]),
    AfterValidator(timeframe_name),
]
_TimeMs = Annotated[StrictInt, Field(ge=0, le=_LATEST_MS)]
_Number = Annotated[float, Strict()]
"""A number of JSON: a text that looks like one is refused, as OpenAPI says, and not guessed at."""
Candle = tuple[_TimeMs, _Number | None, _Number | None, _Number | None, _Number | None, _Number | None]
"""Open time (UTC milliseconds), open, high, low, close, volume, as ccxt gives it."""
Candles = Annotated[
    tuple[Candle, ...],
    Field(
        max_length=MOST_CANDLES,
        description="Closed candles, oldest first: [open time in UTC milliseconds, open, high, low, close, volume], as "
        "ccxt gives them. Too few, and the error says how many the model needs.",
        examples=[[[1767322800000, 97250.0, 97330.1, 97241.9, 97310.5, 12.81]]],
    ),
]


class AskedForecast(BaseModel):
    """What every forecast may be asked with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeframe: TimeframeName | None = None
    horizon: StrictInt | None = Field(None, ge=1, description="Minutes; must be what the model forecasts")
    candles_source: SourceKind | None = Field(
        None,
        description="Which market the candles are of, by your word. Without it the answer is not tradable: nobody "
        "said that they are real.",
    )
    funding: tuple[tuple[_TimeMs, _Number], ...] = Field(
        (),
        max_length=1000,
        description="[settlement in UTC milliseconds, rate]; the home's own where you send none",
    )
    fear_greed: tuple[tuple[_TimeMs, Annotated[StrictInt, Field(ge=0, le=100)]], ...] = Field(
        (), max_length=1000, description="[start of the day in UTC milliseconds, index]; the home's own without"
    )


class PredictRequest(AskedForecast):
    """One forecast, from the newest features, or from candles that come along."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"symbol": "BTC/USDT"},
                {
                    "symbol": "ETH/USDT",
                    "candles": [[1767322800000, 3350.1, 3352.0, 3349.2, 3351.7, 108.2]],
                    "leader_candles": [[1767322800000, 97250.0, 97330.1, 97241.9, 97310.5, 12.81]],
                    "candles_source": "exchange",
                },
            ]
        }
    )

    symbol: Symbol
    candles: Candles | None = Field(None, description="Without them the newest features are taken")
    leader_candles: Candles = Field(
        (),
        max_length=MOST_CANDLES,
        description="Of BTC/USDT, at the same times, where the model looks at it; the home's own without",
    )
    explain: StrictBool = Field(False, description="Also say what each value of the row adds")


class BatchRequest(AskedForecast):
    """Forecasts of many symbols at one instant."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"symbols": ["BTC/USDT", "ETHUSDT", "SOL-USDT"]}]},
    )

    symbols: tuple[str, ...] = Field(
        min_length=1, max_length=LARGEST_BATCH, description="In any spelling; one that is none has an error of its own"
    )
    candles: dict[str, Candles] = Field(
        default_factory=dict,
        max_length=LARGEST_BATCH,
        description="Symbol, in any spelling, to its candles; those of BTC/USDT serve the others too",
    )


class ForecastError(BaseModel):
    """Why there is no forecast of one symbol."""

    model_config = ConfigDict(frozen=True)

    status: int = Field(description="The status that the same request alone would have had")
    code: str
    message: str
    details: Any = None


class BatchItem(BaseModel):
    """One symbol: its forecast, or why there is none."""

    model_config = ConfigDict(frozen=True)

    symbol: str = Field(description="As it was asked for, in the inside spelling where it is a symbol")
    prediction: Prediction | None
    error: ForecastError | None


class BatchAnswer(BaseModel):
    """One item per symbol, in the order in which they were asked for."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "ok": True,
                    "timestamp": "2026-01-02T03:05:01.250Z",
                    "items": [
                        {"symbol": "BTC/USDT", "prediction": PREDICTION_EXAMPLE, "error": None},
                        {
                            "symbol": "DOGE/USDT",
                            "prediction": None,
                            "error": {
                                "status": 404,
                                "code": "unknown_symbol",
                                "message": "Expected one of BTC/USDT, ETH/USDT, was DOGE/USDT.",
                                "details": None,
                            },
                        },
                    ],
                }
            ]
        },
    )

    ok: bool = Field(True, description="Always true: an error of one symbol is in its item")
    timestamp: datetime = Field(description="When the forecasts were made, UTC")
    items: tuple[BatchItem, ...]
