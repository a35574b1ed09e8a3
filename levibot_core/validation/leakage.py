"""The leak check: proof by attack that nothing a model is trained on looks ahead.

The attack changes everything that became known after an instant and demands that every feature before it keeps all
its 64 bits; labels and split are checked against their definitions, not against the code that made them. A finished
training is attacked beside. How the future is changed is in `perturbation`, the attacks themselves in `attack`, the
static rule in `static_scan`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

import levibot_core.features
import levibot_core.labels
from levibot_core.features.compute import compute_features
from levibot_core.features.kernels import FAMILIES, Kernel
from levibot_core.features.registry import FeatureSet
from levibot_core.labels.definition import TripleBarrierLabel, label_definition
from levibot_core.labels.labelling import label_rows
from levibot_core.market.symbols import LEADER
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import FEATURES
from levibot_core.stores.training_rows import newest_revisions
from levibot_core.validation.attack.bits import differences
from levibot_core.validation.attack.features import attack_features
from levibot_core.validation.attack.instants import attacked_instants
from levibot_core.validation.attack.trained import TrainedModel, attack_trained_model
from levibot_core.validation.barrier_checks import check_barriers
from levibot_core.validation.definition_checks import check_labels, check_labels_need_their_bar, check_split
from levibot_core.validation.leak_report import LeakCheck, LeakReport, verdict
from levibot_core.validation.perturbation import MarketTables
from levibot_core.validation.split import SplitResult
from levibot_core.validation.static_scan import scan_feature_code

_ATTACKED_INSTANTS = 6
# Rows before an attacked instant whose bits are compared, beside the whole history once.
_COMPARED_BARS = 48
_FUNDING_DAYS = 7


@dataclass(frozen=True, slots=True)
class _FeatureCode:
    """How features are computed, and how much of a market one value looks at."""

    feature_set: FeatureSet
    timeframe: Timeframe
    leader: str
    kernels: Mapping[str, Kernel]

    def compute(self, market: MarketTables) -> pl.DataFrame:
        return compute_features(
            market.candles,
            market.funding,
            self.feature_set,
            self.timeframe,
            self.leader,
            kernels=self.kernels,
            fear_greed=market.fear_greed,
        )

    def around(self, market: MarketTables, instant_ms: int) -> MarketTables:
        """What matters near the instant, as far into the future as windows reach back."""
        reach = self.feature_set.warm_up * self.timeframe.milliseconds
        before = reach + _COMPARED_BARS * self.timeframe.milliseconds
        opened = pl.col("ts").dt.epoch("ms")
        settled = opened.is_between(instant_ms - before - _FUNDING_DAYS * MILLISECONDS_PER_DAY, instant_ms + reach)
        near = opened.is_between(instant_ms - before, instant_ms + reach)
        return MarketTables(market.candles.filter(near), market.funding.filter(settled), market.fear_greed)


def check_leakage(
    candles: pl.DataFrame,
    funding: pl.DataFrame,
    feature_set: FeatureSet,
    timeframe: Timeframe,
    horizon_bars: int,
    split: SplitResult,
    seed: int,
    leader: str = LEADER,
    kernels: Mapping[str, Kernel] = FAMILIES,
    trained: TrainedModel | None = None,
    fear_greed: pl.DataFrame | None = None,
    triple_barrier: TripleBarrierLabel | None = None,
) -> LeakReport:
    """Attack the features, hold labels and split against their definitions, and attack what was trained on them.

    Args:
        candles: Every revision of the bars that the split's rows were made from; warm-up before them is welcome.
        funding: Every revision of the settlements; may be empty.
        feature_set: The set the rows carry.
        timeframe: Length of a bar.
        horizon_bars: Horizon of the label.
        split: The parts a model is trained, chosen, calibrated and tested on.
        seed: Chooses the attacked instants and the noise.
        leader: The leading market.
        kernels: The families' kernels; see `compute_features`.
        trained: What a training on that split left; its statistics, calibrator, forecasts and positions are attacked
            too. None before there is one.
        fear_greed: Every revision of the index; None is the same as no rows.
        triple_barrier: The barriers of the label; None where it is the direction.
    """
    label = label_definition(horizon_bars, triple_barrier)
    code = _FeatureCode(feature_set, timeframe, leader, kernels)
    market, newest = MarketTables(candles, funding, fear_greed), newest_revisions(candles)
    random = np.random.default_rng(seed)
    rows = pl.concat(list(split.parts.values())).sort(FEATURES.key)
    instants = attacked_instants(market, rows["known_at"], timeframe, _ATTACKED_INSTANTS, random)
    whole = code.compute(market)
    return LeakReport(
        (
            attack_features(
                code.compute, market, instants, random, lambda instant: code.around(market, instant), whole
            ),
            _check_rows(code, candles, whole, rows),
            (
                check_labels(newest, timeframe, horizon_bars, rows)
                if triple_barrier is None
                else check_barriers(newest, timeframe, triple_barrier, rows)
            ),
            check_labels_need_their_bar(
                newest, timeframe, horizon_bars, instants, lambda known, bar, _: label_rows(known, bar, label)
            ),
            check_split(split),
            _check_code(),
            *(attack_trained_model(trained, split, newest, timeframe, random) if trained else ()),
        )
    )


def _check_rows(code: _FeatureCode, candles: pl.DataFrame, whole: pl.DataFrame, rows: pl.DataFrame) -> LeakCheck:
    """The rows trained on are what the kernels give, not something fitted or shifted afterwards."""
    names = code.feature_set.names
    settled_ms = code.feature_set.warm_up * code.timeframe.milliseconds
    settled = pl.col("ts") >= candles["ts"].min() + pl.duration(milliseconds=settled_ms, time_unit="ms")
    given = rows.filter(settled).select(*FEATURES.polars_schema, *names)
    computed = given.select(FEATURES.key).join(whole, on=FEATURES.key, how="left", maintain_order="left")
    found = list(
        differences(given, computed, FEATURES.key, ("known_at", *names), "when computed from the candles again")
    )
    return verdict("rows_are_what_the_kernels_give", found, f"{given.height:,} rows have the same bits")


def _check_code() -> LeakCheck:
    folders = [Path(path) for package in (levibot_core.features, levibot_core.labels) for path in package.__path__]
    found = [str(finding) for folder in folders for finding in scan_feature_code(folder)]
    return verdict("code_has_no_look_ahead", found, "no negative shift, centred window or fill from the future")
