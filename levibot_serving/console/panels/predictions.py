"""What the champion says of every symbol, with intervals, and how old the features are that it says it from."""

from dataclasses import dataclass

from levibot_core.errors import LevibotError, OnlineStoreError
from levibot_serving.contract import Prediction
from levibot_serving.deps import Services
from levibot_serving.features import newest_features
from levibot_serving.predictor import predict
from levibot_serving.served import REAL_MARKETS, ServedModel

SHOWN = 50
"""Symbols shown at most."""


@dataclass(frozen=True, slots=True)
class SymbolForecast:
    """One symbol: a prediction, or why there is none."""

    symbol: str
    prediction: Prediction | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ReturnBar:
    """An interval of the return on a scale shared by all rows, in parts of its width: 0 left, 1 right, 0.5 no move."""

    lower: float
    upper: float
    target: float | None


@dataclass(frozen=True, slots=True)
class PredictionsPanel:
    """The newest forecasts.

    Attributes:
        forecasts: One per symbol of the model.
        bars: Intervals of those that have one, by symbol.
        level: Share of returns that lie within the intervals in the long run; 0 without any.
        reach: Return at the right end of the bars' scale, fraction; the left end is its negative.
        left_out: Symbols of the model that are not shown.
        simulated: Whether features come from a market that does not exist.
    """

    forecasts: tuple[SymbolForecast, ...]
    bars: dict[str, ReturnBar]
    level: float
    reach: float
    left_out: int
    simulated: bool


def predictions_panel(services: Services) -> PredictionsPanel:
    """Gather the panel."""
    served = services.models.served
    known = 0 if served is None else len(served.bundle.manifest.symbols)
    forecasts = recent_predictions(services, SHOWN)
    given = [item.prediction for item in forecasts if item.prediction is not None]
    reach = max((abs(limit) for each in given for limit in _limits(each)), default=0.0)
    return PredictionsPanel(
        forecasts=forecasts,
        bars={each.symbol: _bar(each, reach) for each in given if _limits(each)},
        level=max((each.interval_level or 0.0 for each in given if _limits(each)), default=0.0),
        reach=reach,
        left_out=max(0, known - len(forecasts)),
        simulated=any(each.source not in REAL_MARKETS for each in given),
    )


def recent_predictions(services: Services, limit: int) -> tuple[SymbolForecast, ...]:
    """The newest forecast of each symbol of the served model, in its order, `limit` at most.

    Computed from the newest features when asked: a person's look is no serving, so it is neither counted nor logged.
    """
    served = services.models.served
    if served is None:
        return ()
    found: list[SymbolForecast] = []
    away: str | None = None
    for symbol in served.bundle.manifest.symbols[:limit]:
        # A store that does not answer keeps its caller waiting: once is enough.
        if away is not None:
            found.append(SymbolForecast(symbol, None, away))
            continue
        try:
            found.append(SymbolForecast(symbol, _forecast(services, served, symbol)))
        except OnlineStoreError as error:
            away = str(error)
            found.append(SymbolForecast(symbol, None, away))
        except LevibotError as error:
            found.append(SymbolForecast(symbol, None, str(error)))
    return tuple(found)


def _forecast(services: Services, served: ServedModel, symbol: str) -> Prediction:
    now_ms = services.now_ms()
    newest = newest_features(services.features, served.bundle.manifest, symbol, now_ms)
    grace = services.settings.feature_grace_seconds
    return services.operations.silenced(predict(served, symbol, newest.vector, now_ms, grace, bars=newest.bars))


def _limits(prediction: Prediction) -> tuple[float, ...]:
    lower, upper = prediction.return_lower, prediction.return_upper
    return () if lower is None or upper is None else (lower, upper)


def _bar(prediction: Prediction, reach: float) -> ReturnBar:
    lower, upper = _limits(prediction)
    target = prediction.price_target
    expected = None if target is None else target / prediction.current_price - 1.0
    return ReturnBar(_place(lower, reach), _place(upper, reach), None if expected is None else _place(expected, reach))


def _place(value: float, reach: float) -> float:
    if reach <= 0.0:
        return 0.5
    return min(1.0, max(0.0, 0.5 + 0.5 * value / reach))
