"""How each part is doing, and what that means for the whole."""

from levibot_core.errors import LevibotError
from levibot_core.market.timeframe import Timeframe
from levibot_serving.contract import Component, Health
from levibot_serving.deps import Services
from levibot_serving.predictor import doubt_about_age


def examine(services: Services) -> Health:
    """Look at every component once.

    The registry is not critical: the last good model goes on serving. Old features are not either: the answers
    are flagged. Nor is the local cache, until a restart needs it. Without a model, or without a store to read
    features from, there are no predictions at all.
    """
    components = {
        "model": _model(services),
        "features": _features(services),
        "registry": _registry(services),
        "cache": _cache(services),
    }
    if any(part.critical and part.status == "failing" for part in components.values()):
        return Health(status="failing", components=components)
    if any(part.status != "ok" for part in components.values()):
        return Health(status="degraded", components=components)
    return Health(status="ok", components=components)


def _model(services: Services) -> Component:
    served, status = services.models.served, services.models.status
    if served is None:
        return Component(status="failing", critical=True, detail=f"No model is loaded. {status.problem or ''}".strip())
    facts = {"version": served.version, "tradable": served.tradable, "from_cache": served.from_cache}
    detail = f"{served.record.name} version {served.version}"
    if served.from_cache:
        return Component(status="degraded", critical=True, detail=f"{detail}, from the local cache", facts=facts)
    return Component(status="ok", critical=True, detail=detail, facts=facts)


def _features(services: Services) -> Component:
    served = services.models.served
    symbols = services.settings.symbols if served is None else served.bundle.manifest.symbols
    timeframe = Timeframe.parse(services.settings.timeframe if served is None else served.bundle.manifest.timeframe)
    try:
        vectors = services.features.get_many(symbols)
        absent = [symbol for symbol in symbols if symbol not in vectors]
        expired = services.features.last_known_at_ms(absent) if absent else {}
    except LevibotError as error:
        return Component(status="failing", critical=True, detail=str(error))
    now_ms = services.now_ms()
    ages = {symbol: (now_ms - vector.known_at_ms) / 1000 for symbol, vector in sorted(vectors.items())}
    problems = [f"{symbol}: {'features have expired' if symbol in expired else 'no features'}" for symbol in absent]
    for symbol, age_s in ages.items():
        doubt = doubt_about_age(age_s, timeframe, services.settings.feature_grace_seconds)
        if doubt is not None:
            problems.append(f"{symbol}: {doubt}")
    if problems:
        return Component(status="degraded", critical=True, detail="; ".join(problems), facts={"age_s": ages})
    return Component(status="ok", critical=True, detail=f"{len(ages)} symbols are fresh", facts={"age_s": ages})


def _registry(services: Services) -> Component:
    status = services.models.status
    facts = {"reachable": status.registry_reachable, "last_contact_age_s": status.last_contact_age_s}
    if status.problem is not None:
        return Component(status="degraded", critical=False, detail=status.problem, facts=facts)
    return Component(status="ok", critical=False, detail="its champion is served", facts=facts)


def _cache(services: Services) -> Component:
    problem = services.models.status.cache_problem
    if problem is not None:
        return Component(status="degraded", critical=False, detail=problem)
    return Component(status="ok", critical=False, detail="a restart without the registry serves the same model")
