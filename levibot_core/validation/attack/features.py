"""The attack on features: every value at or before an instant keeps its 64 bits, whatever follows."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from levibot_core.schemas import FEATURES
from levibot_core.validation.attack.bits import differences, known_by, utc
from levibot_core.validation.leak_report import LeakCheck, verdict
from levibot_core.validation.perturbation import PERTURBATIONS, MarketTables, Perturbation, noise

FeatureCode = Callable[[MarketTables], pl.DataFrame]
"""From market tables to symbol, ts, known_at and the features."""

NAME = "features_ignore_the_future"


def attack_features(
    compute: FeatureCode,
    market: MarketTables,
    instants_ms: Sequence[int],
    random: np.random.Generator,
    around: Callable[[int], MarketTables] | None = None,
    whole: pl.DataFrame | None = None,
) -> LeakCheck:
    """Perturb the market after each instant and compare what was known by then, up to the first that shows a leak.

    Args:
        compute: What is attacked.
        market: The tables it reads.
        instants_ms: Decision times, UTC milliseconds, at least one.
        random: Draws the noise.
        around: The part of the market that matters near an instant; the whole market when None. With it, the whole
            is attacked once more, by noise at the middle instant.
        whole: What `compute` gives for `market`, where the caller has it already.
    """
    found: list[str] = []
    compared = features = 0
    whole = compute(market) if whole is None else whole
    for instant in instants_ms:
        near = market if around is None else around(instant)
        before = known_by(whole if around is None else compute(near), instant)
        for words, perturb in PERTURBATIONS.items():
            found += _noticed(
                compute, near, before, instant, perturb, random, f"what follows {utc(instant)} is {words}"
            )
            compared += before.height
        features = len(before.columns) - len(FEATURES.polars_schema)
        if found:
            return verdict(NAME, found, "")
    if around is not None:
        middle = instants_ms[len(instants_ms) // 2]
        before = known_by(whole, middle)
        found += _noticed(compute, market, before, middle, noise, random, f"all that follows {utc(middle)} is noise")
        compared += before.height
    return verdict(
        NAME,
        found,
        f"{compared:,} rows of {features} features kept their bits under {len(PERTURBATIONS)} kinds "
        f"of change at {len(instants_ms)} instants",
    )


def _noticed(
    compute: FeatureCode,
    market: MarketTables,
    before: pl.DataFrame,
    instant_ms: int,
    perturb: Perturbation,
    random: np.random.Generator,
    when: str,
) -> list[str]:
    after = known_by(compute(market.perturbed(perturb, instant_ms, random)), instant_ms)
    names = [name for name in before.columns if name not in FEATURES.polars_schema]
    return list(differences(before, after, FEATURES.key, names, f"when {when}"))
