"""What `levibot features explain` reads from the lake, and how it is told.

What a value is explained by is decided in `levibot_core.features.explanation`.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from levibot_core.errors import ConfigurationError, MarketDataUnavailableError
from levibot_core.features.explanation import Explanation, explain
from levibot_core.features.registry import FeatureSpec, load_registry
from levibot_core.market.symbols import LEADER, normalize_symbol
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.stores.paths import features_dataset
from levibot_pipelines.workspace import Workspace

# Among the values of so many days, a value is usual or not.
_USUAL_DAYS = 30


def explain_now(workspace: Workspace, spec: FeatureSpec, version: str, symbol: str, at: str | None) -> Explanation:
    """Explain the newest value in the lake that was known at that instant.

    Args:
        workspace: The home; it need not exist.
        spec: A feature of the set `version`.
        version: Version of the feature set whose values are read.
        symbol: Any spelling.
        at: ISO 8601, UTC where no zone is given; None is the newest value there is.

    Raises:
        MarketDataUnavailableError: the lake holds no value of that symbol known then.
        ConfigurationError: `at` is no instant.
        UnknownSymbolError: the symbol is malformed.
    """
    at_ms, symbol = _milliseconds(at), normalize_symbol(symbol)
    identity, lake, settings = workspace.ingested_source, workspace.lake, workspace.settings
    table = load_registry(version).table()
    features = features_dataset(identity.key, settings.market, settings.timeframe, version, table)
    try:
        decided_ms = lake.latest_known_at_ms(features, symbol, before_ms=at_ms)
    except MarketDataUnavailableError as error:
        raise MarketDataUnavailableError(f"{error} Then materialise feature_store/features.") from error
    usual_ms = decided_ms - _USUAL_DAYS * MILLISECONDS_PER_DAY
    # Twice the warm-up, so that a window that begins in a gap is not taken for the beginning of the market.
    start_ms = min(usual_ms, decided_ms - 2 * spec.warm_up * workspace.timeframe.milliseconds)
    symbols = sorted({symbol, LEADER})
    return explain(
        spec,
        history=lake.read_all_revisions(features, [symbol], usual_ms, decided_ms, ["known_at", spec.name]),
        candles=lake.read(workspace.candles(identity), symbols, start_ms, decided_ms, decided_ms).drop("revision"),
        funding=lake.read_all_revisions(workspace.funding(identity), [symbol], start_ms, decided_ms + 1),
        fear_greed=lake.read_all_revisions(workspace.fear_greed(identity)),
        timeframe=workspace.timeframe,
    )


def record_of(explanation: Explanation) -> dict[str, Any]:
    """The explanation for machines, instants as ISO 8601."""
    record = asdict(explanation)
    for name in ("decided", "window_from", "window_to"):
        record[name] = _instant(record.pop(f"{name}_ms")).isoformat()
    return record


def facts_of(explanation: Explanation) -> list[tuple[str, object]]:
    """The explanation as names and values for people."""
    inputs = [f"{name} {_input(name, value)}" for name, value in explanation.inputs.items()]
    facts: list[tuple[str, object]] = [
        ("symbol", explanation.symbol),
        ("decided at", _utc(explanation.decided_ms)),
        ("looks at", f"{_utc(explanation.window_from_ms)} to {_utc(explanation.window_to_ms)}"),
        ("inputs at its last bar", "\n".join(inputs)),
    ]
    if explanation.value is None or explanation.share_below is None:
        return [*facts, ("value", f"none: {explanation.why_missing}")]
    percentile = 100.0 * explanation.share_below
    usual = f"percentile {percentile:.1f} among the {explanation.compared:,} values of {_USUAL_DAYS} days"
    return [*facts, ("value", f"{explanation.value:.8g}"), ("how unusual", usual)]


def _input(name: str, value: float | None) -> str:
    if value is None:
        return "missing"
    return _utc(int(value)) if name == "open_time" else f"{value:.8g}"


def _utc(milliseconds: int) -> str:
    return f"{_instant(milliseconds):%Y-%m-%d %H:%M} UTC"


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _milliseconds(at: str | None) -> int | None:
    if at is None:
        return None
    try:
        instant = datetime.fromisoformat(at)
    except ValueError as error:
        raise ConfigurationError(f"Expected --at as an instant such as 2023-04-01T12:00 (UTC), was {at!r}.") from error
    return int((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)
