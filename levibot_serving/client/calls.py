"""Everything that can be asked of the API: method, path, parameters, and the type of the result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from levibot_core.config import SourceKind
from levibot_serving.contract import Alive, Health, Models, Prediction, Ready
from levibot_serving.contract_analytics import Deciles, RecentPredictions, SignalLog
from levibot_serving.contract_backtests import BacktestEntry, BacktestQueued, BacktestReport
from levibot_serving.contract_control import ChampionChange, KillAnswer, LiveStatus, ModelList, Selected
from levibot_serving.contract_explanation import Explanation
from levibot_serving.contract_features import Features, FeaturesBatch
from levibot_serving.contract_forecasts import BatchAnswer, Candle

_Result = TypeVar("_Result")
CandleRows = Sequence[Candle | Sequence[float | None]]
Role = Literal["champion", "challenger"]


@dataclass(frozen=True, slots=True)
class Call(Generic[_Result]):
    """One question.

    Attributes:
        parse: Makes the result of a response that answers.
        repeatable: Whether asking twice does no more than asking once.
        accepted: Statuses beside 2xx that answer.
    """

    method: str
    path: str
    parse: Callable[[httpx.Response], _Result]
    params: Mapping[str, Any] | None = None
    json: Any = None
    headers: Mapping[str, str] | None = None
    repeatable: bool = True
    accepted: frozenset[int] = frozenset()

    def answered_by(self, response: httpx.Response) -> bool:
        """Whether the response is an answer, not a refusal."""
        return response.is_success or response.status_code in self.accepted


def _json(kind: type[_Result]) -> Callable[[httpx.Response], _Result]:
    adapter = TypeAdapter(kind)
    return lambda response: adapter.validate_json(response.content)


def _given(**values: Any) -> dict[str, Any]:
    """The values that were given."""
    return {name: value for name, value in values.items() if value is not None}


def predict(
    symbol: str,
    timeframe: str | None = None,
    horizon: int | None = None,
    candles: CandleRows | None = None,
    leader_candles: CandleRows | None = None,
    candles_source: SourceKind | None = None,
    funding: Sequence[tuple[int, float]] | None = None,
    fear_greed: Sequence[tuple[int, int]] | None = None,
    explain: bool = False,
) -> Call[Prediction]:
    """The forecast of one symbol, from the newest features or from candles."""
    asked = _given(symbol=symbol, timeframe=timeframe, horizon=horizon, explain=explain or None)
    if candles is None:
        return Call("GET", "/ai/predict", _json(Prediction), params=asked)
    body = asked | _given(
        candles=candles,
        leader_candles=leader_candles,
        candles_source=candles_source,
        funding=funding,
        fear_greed=fear_greed,
    )
    return Call("POST", "/ai/predict", _json(Prediction), json=body)


def predict_batch(
    symbols: Sequence[str],
    timeframe: str | None = None,
    horizon: int | None = None,
    candles: Mapping[str, CandleRows] | None = None,
    candles_source: SourceKind | None = None,
) -> Call[BatchAnswer]:
    """Forecasts of many symbols."""
    body = _given(
        symbols=list(symbols), timeframe=timeframe, horizon=horizon, candles=candles, candles_source=candles_source
    )
    return Call("POST", "/ai/predict/batch", _json(BatchAnswer), json=body)


def explain(symbol: str, top: int | None = None) -> Call[Explanation]:
    """Why the forecast is what it is."""
    return Call("GET", "/ai/explain", _json(Explanation), params=_given(symbol=symbol, top=top))


def models() -> Call[Models]:
    """The served model."""
    return Call("GET", "/ai/models", _json(Models))


def model_list() -> Call[ModelList]:
    """Every registered version."""
    return Call("GET", "/ai/models/list", _json(ModelList))


def activate(version: int, reason: str, force: bool = False) -> Call[ChampionChange]:
    """Make a version champion."""
    body = {"version": version, "reason": reason, "force": force}
    return Call("POST", "/ai/models/activate", _json(ChampionChange), json=body)


def rollback(reason: str) -> Call[ChampionChange]:
    """Make the champion before champion again; asked twice, it would go two back."""
    return Call("POST", "/ai/models/rollback", _json(ChampionChange), json={"reason": reason}, repeatable=False)


def select(name: str) -> Call[Selected]:
    """Whether a model or family answers."""
    return Call("POST", "/ai/select", _json(Selected), json={"name": name})


def features(symbol: str, names: Sequence[str] | None = None) -> Call[Features]:
    """The newest features of one symbol."""
    params = _given(names=None if names is None else ",".join(names))
    return Call("GET", f"/features/{quote(symbol, safe='')}", _json(Features), params=params)


def features_of_many(symbols: Sequence[str], names: Sequence[str] | None = None) -> Call[FeaturesBatch]:
    """The newest features of many symbols."""
    params = _given(symbols=",".join(symbols), names=None if names is None else ",".join(names))
    return Call("GET", "/features", _json(FeaturesBatch), params=params)


def recent_predictions(limit: int = 100, role: Role = "champion") -> Call[RecentPredictions]:
    """The newest forecasts."""
    return Call("GET", "/analytics/predictions/recent", _json(RecentPredictions), params={"limit": limit, "role": role})


def deciles(window: Literal["24h", "7d"] = "24h", role: Role = "champion") -> Call[Deciles]:
    """How often forecasts came true, by confidence."""
    return Call("GET", "/analytics/deciles", _json(Deciles), params={"window": window, "role": role})


def signal_log(limit: int = 100) -> Call[SignalLog]:
    """The newest signals."""
    return Call("GET", "/ops/signal_log", _json(SignalLog), params={"limit": limit})


def run_backtest(
    symbol: str, days: int, fee_bps: float, slippage_bps: float, max_pos: float, idempotency_key: str
) -> Call[BacktestQueued]:
    """Queue a backtest; its key makes asking twice harmless."""
    body = {
        "symbol": symbol,
        "days": days,
        "fee_bps": fee_bps,
        "slippage_bps": slippage_bps,
        "max_pos": max_pos,
    }
    return Call("POST", "/backtest/run", _json(BacktestQueued), json=body, headers={"Idempotency-Key": idempotency_key})


def backtest_reports() -> Call[list[BacktestEntry]]:
    """Every backtest."""
    return Call("GET", "/backtest/reports", _json(list[BacktestEntry]))


def backtest_report(report_id: str) -> Call[BacktestReport]:
    """One backtest with every trade."""
    return Call("GET", f"/backtest/reports/{quote(report_id, safe='')}", _json(BacktestReport))


def kill(on: bool, reason: str) -> Call[KillAnswer]:
    """Throw the kill switch."""
    return Call("POST", "/live/kill", _json(KillAnswer), json={"on": on, "reason": reason})


def live_status() -> Call[LiveStatus]:
    """How the kill switch stands."""
    return Call("GET", "/live/status", _json(LiveStatus))


def liveness() -> Call[Alive]:
    """Whether the process answers."""
    return Call("GET", "/livez", _json(Alive), repeatable=False)


def readiness() -> Call[Ready]:
    """Whether a model is loaded."""
    return Call("GET", "/readyz", _json(Ready), repeatable=False)


def health() -> Call[Health]:
    """Every part; also when one fails."""
    return Call("GET", "/healthz", _json(Health), accepted=frozenset({503}))


def metrics() -> Call[str]:
    """Prometheus text."""
    return Call("GET", "/metrics", lambda response: response.text)
