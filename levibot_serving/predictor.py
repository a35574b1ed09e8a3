"""From a served model and a feature vector to a forecast, and to an answer. Pure: no clock, no disk, no network.

Nothing is filled in. A value that is missing is an error; features that are old, or dated after now, still give a
number, flagged, on which nobody may trade.

The earlier LeviBot put its price target at the close plus or minus a tenth of the gap to SMA20. That is not repeated:
the gap says nothing about the horizon of the forecast. Ours is the close moved by the forecast's lean times the
volatility expected over the horizon: the model's own forecast of it, or what the last 48 bars suggest.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import numpy as np

from levibot_core.errors import BundleError, MissingFeatureError, UnknownSymbolError
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import BundleManifest, ModelBundle
from levibot_core.models.ensemble_bundle import MemberForecast, score_with_members
from levibot_core.models.predictors import BASE_RATE, LIGHTGBM, TFT
from levibot_core.models.uncertainty import VOLATILITY_FEATURE, ReturnOutlook, probability_interval, return_outlook
from levibot_core.risk.policy import CostAwarePolicy
from levibot_core.stores.online import FeatureVector
from levibot_serving.contract import MemberComponent, Prediction, Side
from levibot_serving.served import REAL_MARKETS, ServedModel

LONG_THRESHOLD = 0.55
SHORT_THRESHOLD = 0.45
CLOCK_TOLERANCE_S = 5.0
POLICY = CostAwarePolicy()
timeframe_named = cache(Timeframe.parse)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a model says of a vector. A function of both alone, so it may be kept and used again.

    Attributes:
        probability: Calibrated probability of a rise, 0 to 1.
        bounds: The two probabilities that bracket it, where the calibration knows them.
        members: What each member of an ensemble says; none for a single model.
        outlook: What is expected of the return; None for a model without a volatility head.
        volatility: Over the horizon, a fraction: the head's, else what the last 48 bars suggest; None without both.
        unpaid: Why acting on it is not expected to earn its costs; None where it is.
        novelty: Share of the training rows nearer to the middle of them than this one, 0 to 1; None where the bundle
            keeps nothing of them.
    """

    probability: float
    bounds: tuple[float, float] | None
    members: tuple[MemberForecast, ...]
    outlook: ReturnOutlook | None
    volatility: float | None
    unpaid: str | None
    novelty: float | None


def predict(
    served: ServedModel,
    symbol: str,
    vector: FeatureVector,
    now_ms: int,
    grace_seconds: float,
    note: str | None = None,
    bars: np.ndarray | None = None,
    instead: str | None = None,
) -> Prediction:
    """Forecast one symbol: `forecast`, then `answer`.

    Args:
        served: The model that answers.
        symbol: Inside spelling, BTC/USDT.
        vector: The newest features of the symbol.
        now_ms: UTC milliseconds.
        grace_seconds: Features older than one bar plus this are stale.
        note: Passed on to the reader of the answer.
        bars: The model's features of the last bars, float64 (window, f), oldest first, the vector's own included; only
            a model that looks at more than one needs them.
        instead: Why the features are not those of the online store, where they are not; flags the answer.

    Raises:
        UnknownSymbolError: the model was not trained on the symbol.
        MissingFeatureError: the vector follows another feature set, or it lacks what the model needs.
        BundleError: the model did not return a probability.
    """
    said = forecast(served, symbol, vector, bars)
    return answer(served, symbol, vector, said, now_ms, grace_seconds, note, instead)


def forecast(served: ServedModel, symbol: str, vector: FeatureVector, bars: np.ndarray | None = None) -> Forecast:
    """Ask the model. Arguments and errors as of `predict`."""
    manifest = served.bundle.manifest
    expect_known(manifest, symbol)
    whole = _whole(manifest, symbol, vector)
    row = model_input(served.bundle, whole, bars)
    probability, bounds, members = _probability(served, row)
    outlook = return_outlook(served.uncertainty, symbol, whole.values, manifest.symbols)
    volatility = _volatility(whole, outlook, manifest.horizon_bars)
    unpaid = _why_it_does_not_pay(probability, volatility)
    return Forecast(probability, bounds, members, outlook, volatility, unpaid, _novelty(served, row))


def answer(
    served: ServedModel,
    symbol: str,
    vector: FeatureVector,
    said: Forecast,
    now_ms: int,
    grace_seconds: float,
    note: str | None = None,
    instead: str | None = None,
) -> Prediction:
    """Write down a forecast as of now, with every reason not to act on it.

    Args:
        served: The model that was asked.
        symbol: Inside spelling.
        vector: The features it was asked about.
        said: What it said.
        now_ms: UTC milliseconds.
        grace_seconds: As of `predict`.
        note: As of `predict`.
        instead: As of `predict`.
    """
    manifest = served.bundle.manifest
    probability, bounds, outlook = said.probability, said.bounds, said.outlook
    by_family = {manifest.family: probability, **{member.name: member.probability for member in said.members}}

    age_s = (now_ms - vector.known_at_ms) / 1000
    doubt = doubt_about_age(age_s, timeframe_named(manifest.timeframe), grace_seconds)
    abstain = doubt is not None or manifest.family == BASE_RATE
    unpaid = None if abstain else said.unpaid
    reasons = [*served.reasons, *(reason for reason in (instead, doubt, unpaid) if reason is not None)]
    if vector.source_kind not in REAL_MARKETS:
        reasons.append(f"the features come from a market of kind {vector.source_kind!r}, which is never tradable")
    shortfalls = [shortfall for shortfall in (instead, doubt) if shortfall is not None]

    return Prediction(
        symbol=symbol,
        timeframe=manifest.timeframe,
        horizon=horizon_minutes(manifest),
        timestamp=utc(now_ms),
        current_price=vector.close,
        prob_up=probability,
        side="flat" if abstain or unpaid else side_of(probability),
        confidence=2 * abs(probability - 0.5),
        price_target=_price_target(vector.close, probability, said.volatility),
        **_limits(vector.close, outlook),
        prob_lower=None if bounds is None else bounds[0],
        prob_upper=None if bounds is None else bounds[1],
        prob_lgbm=by_family.get(LIGHTGBM),
        prob_tft=by_family.get(TFT),
        prob_sent=None,
        novelty=said.novelty,
        components=tuple(
            MemberComponent(name=member.name, probability=member.probability, weight=member.weight)
            for member in said.members
        ),
        model=served.record.name,
        family=manifest.family,
        model_version=served.version,
        snapshot_id=served.snapshot_id,
        as_of=utc(vector.known_at_ms),
        feature_age_s=age_s,
        staleness_s=age_s,
        source=vector.source_kind,
        tradable=served.tradable and not abstain and unpaid is None and vector.source_kind in REAL_MARKETS,
        abstain=abstain,
        fallback=bool(shortfalls),
        fallback_reason="; ".join(shortfalls) or None,
        reasons=tuple(reasons),
        note=note,
    )


def expect_known(manifest: BundleManifest, symbol: str) -> None:
    """Refuse a symbol that the model was not trained on.

    Raises:
        UnknownSymbolError: the message names those it knows.
    """
    if symbol not in manifest.symbols:
        raise UnknownSymbolError(f"Expected one of {', '.join(manifest.symbols)}, was {symbol}.")


def side_of(probability: float) -> Side:
    """The side that a probability argues for: long from 0.55 up, short from 0.45 down, else flat."""
    if probability >= LONG_THRESHOLD:
        return "long"
    return "short" if probability <= SHORT_THRESHOLD else "flat"


def horizon_minutes(manifest: BundleManifest) -> int:
    """How far ahead the model forecasts, in minutes."""
    return manifest.horizon_bars * timeframe_named(manifest.timeframe).milliseconds // 60_000


def utc(milliseconds: int) -> datetime:
    """The instant as an aware datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def expect_features(manifest: BundleManifest, symbol: str, vector: FeatureVector) -> None:
    """Refuse a vector of another feature set: equal names need not mean equal values.

    Raises:
        MissingFeatureError: the message names both sets.
    """
    if vector.feature_set != manifest.feature_set:
        raise MissingFeatureError(
            f"Expected features of the set {manifest.feature_set!r} for {symbol}, was {vector.feature_set!r}. "
            "Materialise the set that the model was trained on."
        )


def _whole(manifest: BundleManifest, symbol: str, vector: FeatureVector) -> FeatureVector:
    expect_features(manifest, symbol, vector)
    if not (math.isfinite(vector.close) and vector.close > 0):
        raise MissingFeatureError(f"Expected a positive close of {symbol}, was {vector.close}.")
    return vector


def model_input(bundle: ModelBundle, vector: FeatureVector, bars: np.ndarray | None) -> np.ndarray:
    """What the model is asked: the vector, or the window of bars that ends with it.

    Raises:
        MissingFeatureError: a feature is missing, or the window is not whole.
    """
    if bundle.manifest.window == 1:
        return bundle.matrix_row(vector.symbol, vector.values)
    return bundle.matrix_of_bars(vector.symbol, np.empty((0, 0)) if bars is None else bars)


def _probability(
    served: ServedModel, row: np.ndarray
) -> tuple[float, tuple[float, float] | None, tuple[MemberForecast, ...]]:
    """The calibrated probability, the two that bracket it where the calibration knows them, and what members say."""
    raw, said = score_with_members(served.bundle, row)
    probability = float(served.bundle.calibrate(raw)[0])
    if not 0.0 <= probability <= 1.0:
        raise BundleError(f"Expected version {served.version} to predict a probability, was {probability}.")
    return probability, probability_interval(served.bundle.calibrator, raw), said


def _novelty(served: ServedModel, row: np.ndarray) -> float | None:
    """Of the newest bar, without its symbol code; None where the bundle keeps nothing of its training rows."""
    reference = served.uncertainty.novelty
    return None if reference is None else reference.score(row.reshape(-1, row.shape[-1])[-1, :-1])


def doubt_about_age(age_s: float, timeframe: Timeframe, grace_seconds: float) -> str | None:
    """Why features of that age are not fresh, or None when they are.

    A bar's features hold until the next bar has closed; `grace_seconds` is what computing that one may take.
    """
    limit_s = timeframe.milliseconds / 1000 + grace_seconds
    if age_s > limit_s:
        return f"features are {_duration(age_s)} old, and stale after {limit_s:.0f} s"
    if age_s < -CLOCK_TOLERANCE_S:
        return f"features are dated {-age_s:.0f} s after now: a clock is wrong"
    return None


def _duration(seconds: float) -> str:
    """Seconds for as long as people think in them, then hours and days."""
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _volatility(vector: FeatureVector, outlook: ReturnOutlook | None, horizon_bars: int) -> float | None:
    """Over the horizon, fraction: what the model's head forecasts, else what the last 48 bars suggest."""
    if outlook is not None:
        return outlook.volatility
    recent = vector.values.get(VOLATILITY_FEATURE)
    return None if recent is None else recent * math.sqrt(horizon_bars)


def _why_it_does_not_pay(probability: float, volatility: float | None) -> str | None:
    """Why acting on the forecast is not expected to earn its costs; None where it is."""
    if volatility is None or not (math.isfinite(volatility) and volatility > 0.0):
        return "how far the price may move is not known, so it is not known either whether acting would pay its costs"
    edge = abs(float(POLICY.edges(np.array([probability]), np.array([volatility]))[0]))
    if edge > POLICY.round_trip_cost:
        return None
    return (
        f"acting on it is expected to earn {1e4 * edge:.1f} basis points before costs, and a round trip costs "
        f"{1e4 * POLICY.round_trip_cost:.1f}"
    )


def _price_target(close: float, probability: float, volatility: float | None) -> float | None:
    if volatility is None:
        return None
    try:
        target = close * math.exp((2 * probability - 1) * volatility)
    except OverflowError:
        return None
    return target if math.isfinite(target) else None


def _limits(close: float, outlook: ReturnOutlook | None) -> dict[str, float | None]:
    """The fields that an outlook fills; a price beyond all numbers is left out, and its return with it."""
    if outlook is None:
        return {}
    fields: dict[str, float | None] = {"volatility": outlook.volatility, "interval_level": outlook.level}
    for side, limit in (("lower", outlook.lower), ("upper", outlook.upper)):
        if limit is not None and math.isfinite(close * (1.0 + limit)):
            fields |= {f"return_{side}": limit, f"price_{side}": close * (1.0 + limit)}
    return fields
