"""One forecast from beginning to end, whichever endpoint it was asked of: features, model, kill switch, records.

What the model says, and what it said before, is `levibot_serving.forecaster`'s; here is what happens around it. What
must hold at the moment of an answer, its age and the kill switch, is looked at for every answer and never kept.
"""

from dataclasses import dataclass
from time import perf_counter
from typing import Final

from fastapi.concurrency import run_in_threadpool

from levibot_core.errors import LevibotError, MissingFeatureError, OnlineStoreError
from levibot_core.features.sent_market import SentMarket
from levibot_core.models.explanation import TOP_CONTRIBUTIONS
from levibot_core.resilience import CircuitOpenError
from levibot_serving.contract import Prediction
from levibot_serving.deps import Services
from levibot_serving.errors import ApiError
from levibot_serving.explainer import explain_forecast
from levibot_serving.features import NewestFeatures
from levibot_serving.model_store import StoreStatus
from levibot_serving.predictor import doubt_about_age, expect_known, horizon_minutes, timeframe_named
from levibot_serving.recent_features import REQUEST
from levibot_serving.served import ServedModel

HOT_ENDPOINT: Final = "/ai/predict"


@dataclass(frozen=True, slots=True)
class ForecastInput:
    """What a forecast is made from.

    Attributes:
        newest: The features.
        instead: Why they are not those of the online store; None where they are or were (`newest` then says that they
            were kept), and where the caller sent candles.
        sent: Whether the caller sent the candles that they were computed from.
    """

    newest: NewestFeatures
    instead: str | None = None
    sent: bool = False


async def forecast(
    services: Services,
    served: ServedModel,
    symbol: str,
    now_ms: int,
    sent: SentMarket | None = None,
    endpoint: str = HOT_ENDPOINT,
    *,
    explain: bool = False,
) -> Prediction:
    """The forecast for one symbol, as it may be given out: recorded, and silenced by the kill switch.

    Args:
        services: Of the application.
        served: The model.
        symbol: Inside spelling.
        now_ms: UTC milliseconds.
        sent: Candles that the caller sent, to be forecast from in place of the newest features.
        endpoint: Route template, for the metrics.
        explain: Whether to say what each value of the row adds, which takes the time of hundreds of forecasts.

    Raises:
        UnknownSymbolError, UnusableCandlesError, ApiError: as `find_input`.
        MissingFeatureError, BundleError: as `levibot_serving.predictor.predict`.
    """
    started = perf_counter()
    found = await find_input(services, served, symbol, now_ms, sent)
    services.metrics.observe_stage(endpoint, "features", perf_counter() - started)
    note = note_on(services.models.status)
    prediction = await services.forecaster.answer(
        served, symbol, found.newest, now_ms, endpoint, note, found.instead, sent=found.sent
    )
    given = conclude(services, prediction, found, now_ms)
    return await explained(served, given, found, now_ms) if explain else given


async def find_input(
    services: Services, served: ServedModel, symbol: str, now_ms: int, sent: SentMarket | None = None
) -> ForecastInput:
    """The features of a symbol: computed from sent candles, else of the online store, else computed from the lake.

    While the store does not answer, features that were read from it before the next bar closed stand in; they are
    flagged, see `levibot_serving.feature_reader`.

    Raises:
        UnknownSymbolError: the model was not trained on the symbol.
        UnusableCandlesError: sent candles cannot be computed from.
        ApiError: 422, a feature is not defined on sent candles; or 503, there are no features, and none can be
            computed: abstain.
    """
    if sent is not None:
        expect_known(served.bundle.manifest, symbol)
        return await _input_of_sent(services, served, symbol, sent, now_ms)
    try:
        newest = await services.reader.newest(served.bundle.manifest, symbol, now_ms)
    except (MissingFeatureError, OnlineStoreError, CircuitOpenError) as error:
        return await instead_of_absent(services, served, symbol, error)
    return await fresher_than(services, served, symbol, newest, now_ms)


async def _input_of_sent(
    services: Services, served: ServedModel, symbol: str, sent: SentMarket, now_ms: int
) -> ForecastInput:
    try:
        return ForecastInput(await services.operations.recent.from_candles(served, symbol, sent, now_ms), sent=True)
    except MissingFeatureError as error:
        raise ApiError(422, "features_undefined", str(error), _abstention(str(error))) from error


async def instead_of_absent(
    services: Services, served: ServedModel, symbol: str, absence: LevibotError
) -> ForecastInput:
    """Features computed from the lake in place of ones that the online store does not give.

    Raises:
        ApiError: 503, they cannot be computed either: abstain, for the reasons in its details.
    """
    try:
        newest = await services.operations.recent.from_lake(served, symbol)
    except LevibotError as error:
        reasons = (str(absence), f"Nor can they be computed from the home's candles. {error}")
        raise ApiError(503, "features_unavailable", " ".join(reasons), _abstention(*reasons)) from absence
    return ForecastInput(newest, "the online store gave no features; they were computed from the home's candles")


def _abstention(*reasons: str) -> dict[str, object]:
    """What a program is told where there is no number."""
    return {"abstain": True, "side": "flat", "reasons": list(reasons)}


async def fresher_than(
    services: Services, served: ServedModel, symbol: str, newest: NewestFeatures, now_ms: int
) -> ForecastInput:
    """The features themselves, or in place of old ones those computed from the lake, where these are fresh."""
    timeframe, grace_s = timeframe_named(served.bundle.manifest.timeframe), services.settings.feature_grace_seconds
    age_s = (now_ms - newest.vector.known_at_ms) / 1000
    if doubt_about_age(age_s, timeframe, grace_s) is None:
        return ForecastInput(newest)
    try:
        found = await services.operations.recent.from_lake(served, symbol)
    except LevibotError:
        return ForecastInput(newest)  # The answer is flagged as resting on old features, and abstains.
    if doubt_about_age((now_ms - found.vector.known_at_ms) / 1000, timeframe, grace_s) is not None:
        return ForecastInput(newest)
    instead = (
        f"the features of the online store are {age_s:.0f} s old; newer ones were computed from the home's candles"
    )
    return ForecastInput(found, instead)


def conclude(services: Services, prediction: Prediction, found: ForecastInput, now_ms: int) -> Prediction:
    """The last step of every forecast: kill switch, count, journal, challenger. It never waits and never fails."""
    operations = services.operations
    given = operations.silenced(prediction)
    services.metrics.count_prediction(given)
    # Whatever the caller said of his candles, nobody here saw them.
    operations.journal.record(given, source=REQUEST if found.sent else None)
    if not found.sent:
        operations.shadow.offer(found.newest.vector, now_ms)
    return given


async def explained(served: ServedModel, prediction: Prediction, found: ForecastInput, now_ms: int) -> Prediction:
    """The forecast with what each value of its row adds. In a thread: that takes the time of hundreds of forecasts."""
    explanation = await run_in_threadpool(
        explain_forecast, served, prediction.symbol, found.newest.vector, now_ms, TOP_CONTRIBUTIONS, found.newest.bars
    )
    return prediction.model_copy(update={"explanation": explanation})


def expect_served(served: ServedModel, timeframe: str | None, horizon: int | None) -> None:
    """Refuse another timeframe or horizon (minutes) than the model's; None is whatever it forecasts.

    Raises:
        ApiError: 400, with what is served.
    """
    manifest = served.bundle.manifest
    ours = {"timeframe": manifest.timeframe, "horizon": horizon_minutes(manifest)}
    asked = {"timeframe": timeframe or ours["timeframe"], "horizon": horizon or ours["horizon"]}
    if asked != ours:
        raise ApiError(
            400,
            "not_served",
            f"Expected timeframe {ours['timeframe']} and horizon {ours['horizon']} (minutes), which "
            f"{served.record.name} forecasts, was {asked['timeframe']} and {asked['horizon']}.",
            {"served": ours, "asked": asked},
        )


def note_on(status: StoreStatus) -> str | None:
    """One line for every answer; `/healthz` has the details."""
    if status.problem is None:
        return None
    if status.registry_reachable:
        return "The last good model answers: the champion of the registry cannot be served."
    age_s = status.last_contact_age_s
    contact = "since this process started" if age_s is None else f"for {age_s:.0f} s"
    return f"The last good model answers: the model registry has not answered {contact}."
