"""`/ai`: forecasts, and the model they come from."""

from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator

from levibot_core.models.explanation import TOP_CONTRIBUTIONS
from levibot_serving.contract import ModelMeta, Models, Prediction, RegistryState
from levibot_serving.contract_explanation import Explanation
from levibot_serving.contract_forecasts import spelled_inside, timeframe_name
from levibot_serving.deps import ServedDep, Services, ServicesDep, served_model
from levibot_serving.errors import documented
from levibot_serving.explainer import explain_forecast
from levibot_serving.forecasting import expect_served, find_input, forecast
from levibot_serving.predictor import horizon_minutes, utc
from levibot_serving.repeated_questions import RepeatedQuestions, ShortPath
from levibot_serving.served import ServedModel

router = APIRouter(tags=["ai"])


SymbolQuery = Annotated[
    str,
    Query(min_length=3, max_length=30, description="BTC/USDT, BTC-USDT or BTCUSDT", examples=["BTC/USDT"]),
    AfterValidator(spelled_inside),
]
TimeframeQuery = Annotated[
    str,
    Query(max_length=8, description="Must be what the model forecasts on", examples=["5m"]),
    AfterValidator(timeframe_name),
]
TopQuery = Annotated[int, Query(ge=1, le=1000, description="Contributions to list at most", examples=[10])]
ExplainQuery = Annotated[bool, Query(description="Also say what each value of the row adds; takes longer")]
HorizonQuery = Annotated[int, Query(ge=1, description="Minutes; must be what the model forecasts", examples=[60])]


def add_prediction_route(app: FastAPI, *, traced: bool = False) -> None:
    """Add `GET /ai/predict` to the application itself, ahead of the routers: it is asked a hundred times as often.

    Repeated questions go a shorter way, except where requests are `traced`: FastAPI makes the spans.
    """
    questions = RepeatedQuestions("/ai/predict", _predicted)

    async def get_prediction(
        request: Request,
        symbol: SymbolQuery,
        timeframe: TimeframeQuery | None = None,
        horizon: HorizonQuery | None = None,
        explain: ExplainQuery = False,
    ) -> Response:
        """The champion's forecast for one symbol, from its newest features.

        Where the online store has none, or old ones, they are computed from the newest candles of the home and the
        answer is flagged; where that cannot be done either, there is no number.
        """
        return await questions.ask(request, symbol=symbol, timeframe=timeframe, horizon=horizon, explain=explain)

    app.router.add_api_route(
        questions.path,
        get_prediction,
        methods=["GET"],
        tags=["ai"],
        response_model=Prediction,
        responses=documented(400, 404, 422, 503),
    )
    if not traced:
        app.add_middleware(ShortPath, questions=questions)


# No second validation of an answer that was validated when it was made. Not in a thread: the work takes well under a
# millisecond, less than a hand-over.
async def _predicted(app: FastAPI, *, symbol: str, timeframe: str | None, horizon: int | None, explain: bool) -> bytes:
    services: Services = app.state.services
    served = served_model(services)
    if timeframe is not None or horizon is not None:
        expect_served(served, timeframe, horizon)
    prediction = await forecast(services, served, symbol, services.now_ms(), explain=explain)
    return prediction.model_dump_json(by_alias=True).encode()


# A thread: taking a forecast apart costs the time of hundreds of forecasts, and must not hold up those.
@router.get("/ai/explain", response_model=Explanation, responses=documented(400, 404, 422, 503))
async def get_explanation(
    services: ServicesDep,
    served: ServedDep,
    symbol: SymbolQuery,
    top: TopQuery = TOP_CONTRIBUTIONS,
    timeframe: TimeframeQuery | None = None,
    horizon: HorizonQuery | None = None,
) -> Explanation:
    """Why the champion forecasts what it does for one symbol now: what each value of its newest features adds."""
    expect_served(served, timeframe, horizon)
    now_ms = services.now_ms()
    newest = (await find_input(services, served, symbol, now_ms)).newest
    return await run_in_threadpool(explain_forecast, served, symbol, newest.vector, now_ms, top, newest.bars)


@router.get("/ai/models", response_model=Models, responses=documented(503))
async def get_models(services: ServicesDep, served: ServedDep) -> Models:
    """The served model: where it comes from, what it needs, and whether it may be traded on."""
    name, status = served.record.name, services.models.status
    return Models(
        ok=True,
        models=(name,),
        current=name,
        version=served.version,
        aliases=served.record.aliases,
        tags=served.record.tags,
        tradable=served.tradable,
        reasons=served.reasons,
        registry=RegistryState(
            reachable=status.registry_reachable,
            last_contact_age_s=status.last_contact_age_s,
            problem=status.problem,
        ),
        meta={name: _meta(served)},
    )


def _meta(served: ServedModel) -> ModelMeta:
    manifest = served.bundle.manifest
    return ModelMeta(
        found=True,
        path=f"models:/{served.record.name}/{served.version}",
        family=manifest.family,
        timeframe=manifest.timeframe,
        horizon=horizon_minutes(manifest),
        horizon_bars=manifest.horizon_bars,
        symbols=manifest.symbols,
        feature_set=manifest.feature_set,
        features=manifest.features,
        snapshot_id=manifest.snapshot_id,
        source_kind=manifest.source_kind,
        calibration=manifest.calibration,
        seed=manifest.seed,
        created_at=manifest.created_at,
        loaded_at=utc(served.loaded_at_ms),
        from_cache=served.from_cache,
    )
