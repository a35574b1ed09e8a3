"""The proof that the guard works: every planted mistake is caught for what it is, and nothing right is objected to.

Clean are the pipeline, the pipeline with the right form of every step that has a wrong one, on markets with and
without an edge; and a whole feature set, through the very check that stands before every promotion.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import polars as pl

from levibot_core.features.compute import compute_features
from levibot_core.features.registry import FeatureSet
from levibot_core.labels.direction import direction_labels
from levibot_core.schemas import FEATURES
from levibot_core.stores.training_rows import newest_revisions
from levibot_core.validation.attack.guard import FEATURE_INSTANTS, attack_pipeline
from levibot_core.validation.attack.market import small_market
from levibot_core.validation.attack.pipeline import Pipeline
from levibot_core.validation.leak_report import LeakReport
from levibot_core.validation.leakage import check_leakage
from levibot_core.validation.mutations.catalogue import MUTATIONS, with_every_step_right
from levibot_core.validation.mutations.mutation import Mutation
from levibot_core.validation.perturbation import MarketTables
from levibot_core.validation.split import chronological_split

EDGES = (0.15, 0.0)
_CLEAN_SEEDS = 3
# A mistake elsewhere leaves the features as they are: they are looked at, but not everywhere.
_FEWER_INSTANTS = 1
# Training rows of the whole feature set, beside those its windows need.
_WHOLE_SET_BARS = 1_500


@dataclass(frozen=True, slots=True)
class LeakOutcome:
    """What became of one planted mistake: the checks that failed, and whether they are those that had to."""

    mutation: Mutation
    failed: tuple[str, ...]
    detail: str
    seconds: float

    @property
    def caught(self) -> bool:
        """Whether exactly the checks failed that this mistake is to fail."""
        return set(self.failed) == set(self.mutation.caught_by)


@dataclass(frozen=True, slots=True)
class CleanOutcome:
    """What became of a clean run: each false alarm in words."""

    name: str
    alarms: tuple[str, ...]
    seconds: float


Outcome = LeakOutcome | CleanOutcome


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """Everything that was attacked."""

    leaks: tuple[LeakOutcome, ...]
    clean: tuple[CleanOutcome, ...]
    seconds: float

    @property
    def missed(self) -> tuple[LeakOutcome, ...]:
        """Mistakes that were not caught, or not for what they are."""
        return tuple(leak for leak in self.leaks if not leak.caught)

    @property
    def false_alarms(self) -> tuple[str, ...]:
        """Objections to what is right."""
        return tuple(f"{run.name}: {alarm}" for run in self.clean for alarm in run.alarms)

    @property
    def passed(self) -> bool:
        """Whether every mistake was caught and nothing else objected to."""
        return not self.missed and not self.false_alarms


def run_suite(
    feature_set: FeatureSet, seed: int, on_outcome: Callable[[Outcome], None] = lambda _: None
) -> SuiteResult:
    """Plant every mistake, and attack what is clean.

    Args:
        feature_set: The platform's whole set, attacked without a mistake.
        seed: Chooses the simulated markets, the attacked instants and the noise.
        on_outcome: Told each outcome as it comes.
    """
    began = time.perf_counter()
    outcomes: list[Outcome] = []
    for outcome in _outcomes(feature_set, seed):
        outcomes.append(outcome)
        on_outcome(outcome)
    return SuiteResult(
        tuple(outcome for outcome in outcomes if isinstance(outcome, LeakOutcome)),
        tuple(outcome for outcome in outcomes if isinstance(outcome, CleanOutcome)),
        time.perf_counter() - began,
    )


def outcomes_count() -> int:
    """How many outcomes a run of the suite has."""
    return len(MUTATIONS) + 2 * len(EDGES) * _CLEAN_SEEDS + 1


def _outcomes(feature_set: FeatureSet, seed: int) -> Iterator[Outcome]:
    pipeline = Pipeline()
    market = _market(pipeline, seed, EDGES[0])
    for mutation in MUTATIONS:
        yield attack_mutation(mutation, pipeline, market, seed)
    for edge in EDGES:
        for clean_seed in range(seed, seed + _CLEAN_SEEDS):
            market = _market(pipeline, clean_seed, edge)
            for name, clean in (("pipeline", pipeline), ("every step right", with_every_step_right(pipeline))):
                what = f"{name}, market {clean_seed} with edge {edge}"
                yield _clean(what, partial(attack_pipeline, clean, market, clean_seed))
    yield _clean(f"feature set {feature_set.version}", partial(attack_feature_set, feature_set, pipeline, seed))


def attack_mutation(mutation: Mutation, pipeline: Pipeline, market: MarketTables, seed: int) -> LeakOutcome:
    """Plant a mistake in the pipeline and attack it."""
    began = time.perf_counter()
    instants = FEATURE_INSTANTS if mutation.stage == "features" else _FEWER_INSTANTS
    report = attack_pipeline(mutation.plant(pipeline, True), market, seed, instants)
    failed = tuple(check.name for check in report.checks if not check.passed)
    return LeakOutcome(mutation, failed, "; ".join(report.failures), time.perf_counter() - began)


def attack_feature_set(feature_set: FeatureSet, pipeline: Pipeline, seed: int) -> LeakReport:
    """The leak check of a training run, on a whole feature set and a simulated market."""
    settings = pipeline.settings
    market = small_market(seed, EDGES[0], settings.symbols, settings.timeframe, feature_set.warm_up + _WHOLE_SET_BARS)
    features = compute_features(
        market.candles, market.funding, feature_set, settings.timeframe, fear_greed=market.fear_greed
    )
    labels = direction_labels(newest_revisions(market.candles), settings.timeframe, settings.horizon_bars)
    whole = features.filter(pl.all_horizontal(pl.col(feature_set.names).is_not_nan()))
    rows = whole.join(labels, on=FEATURES.key, maintain_order="left")
    split = chronological_split(rows)
    return check_leakage(
        market.candles,
        market.funding,
        feature_set,
        settings.timeframe,
        settings.horizon_bars,
        split,
        seed,
        fear_greed=market.fear_greed,
    )


def _market(pipeline: Pipeline, seed: int, edge: float) -> MarketTables:
    return small_market(seed, edge, pipeline.settings.symbols, pipeline.settings.timeframe)


def _clean(name: str, attack: Callable[[], LeakReport]) -> CleanOutcome:
    began = time.perf_counter()
    return CleanOutcome(name, attack().failures, time.perf_counter() - began)
