"""`POST /ai/predict` and `POST /ai/predict/batch`: forecasts asked for with a body, many of them at once."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from fastapi import APIRouter, Request

from levibot_core.errors import LevibotError
from levibot_core.market.symbols import LEADER, normalize_symbol
from levibot_serving.contract import Prediction
from levibot_serving.contract_forecasts import (
    AskedForecast,
    BatchAnswer,
    BatchItem,
    BatchRequest,
    Candle,
    ForecastError,
    PredictRequest,
)
from levibot_serving.deps import ServedDep, Services, ServicesDep
from levibot_serving.errors import ApiError, documented, meaning_of
from levibot_serving.forecasting import expect_served, forecast
from levibot_serving.predictor import utc
from levibot_serving.recent_features import sent_market
from levibot_serving.security.dependencies import PrincipalDep, charge_further_forecasts
from levibot_serving.served import ServedModel

router = APIRouter(tags=["ai"])
_BATCH: Final = "/ai/predict/batch"


@router.post("/ai/predict", response_model=Prediction, responses=documented(400, 404, 422, 503))
async def post_prediction(services: ServicesDep, served: ServedDep, asked: PredictRequest) -> Prediction:
    """The champion's forecast for one symbol: from its newest features, or from candles in the body.

    Features of candles are computed by the kernel that computes training data, and have the same bits. Candles that are
    too few, not successive, not closed, or not numbers are refused with the cause (`unusable_candles`).
    """
    expect_served(served, asked.timeframe, asked.horizon)
    sent = None if asked.candles is None else sent_market(asked.candles, asked.leader_candles, asked)
    return await forecast(services, served, asked.symbol, services.now_ms(), sent, explain=asked.explain)


@router.post(_BATCH, response_model=BatchAnswer, responses=documented(400, 422, 503))
async def post_predictions(
    request: Request, services: ServicesDep, served: ServedDep, principal: PrincipalDep, asked: BatchRequest
) -> BatchAnswer:
    """Forecasts of many symbols at one instant; an error of one symbol is in its item and fails none of the others."""
    expect_served(served, asked.timeframe, asked.horizon)
    await charge_further_forecasts(request, principal, len(set(asked.symbols)))
    now_ms = services.now_ms()
    candles = {_spelled(symbol): rows for symbol, rows in asked.candles.items()}
    items = await asyncio.gather(
        *(_item(services, served, symbol, candles, asked, now_ms) for symbol in dict.fromkeys(asked.symbols))
    )
    return BatchAnswer(timestamp=utc(now_ms), items=tuple(items))


async def _item(
    services: Services,
    served: ServedModel,
    text: str,
    candles: Mapping[str, Sequence[Candle]],
    asked: AskedForecast,
    now_ms: int,
) -> BatchItem:
    symbol = _spelled(text)
    try:
        own = candles.get(symbol)
        sent = None if own is None else sent_market(own, candles.get(LEADER, ()), asked)
        prediction = await forecast(services, served, normalize_symbol(text), now_ms, sent, _BATCH)
        return BatchItem(symbol=symbol, prediction=prediction, error=None)
    except ApiError as error:
        refusal = ForecastError(status=error.status, code=error.code, message=str(error), details=error.details)
    except LevibotError as error:
        status, code, details = meaning_of(error)
        refusal = ForecastError(status=status, code=code, message=str(error), details=details)
    return BatchItem(symbol=symbol, prediction=None, error=refusal)


def _spelled(text: str) -> str:
    """The inside spelling of a symbol; what is none stays as it is, and is refused where it is asked for."""
    try:
        return normalize_symbol(text)
    except LevibotError:
        return text[:40]
