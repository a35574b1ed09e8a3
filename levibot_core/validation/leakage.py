"""The leak check: proof by attack that nothing a model is trained on looks ahead.

The attack changes everything that became known after an instant and demands that every feature before it keeps all
its 64 bits; labels and split are checked against their definitions, not against the code that made them. How the
future is changed is in `perturbation`, the static rule in `static_scan`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

import levibot_core.features
import levibot_core.labels
from levibot_core.features.compute import LEADER, compute_features
from levibot_core.features.kernels import FAMILIES, Kernel
from levibot_core.features.registry import FeatureSet
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import FEATURES
from levibot_core.validation.definition_checks import check_labels, check_labels_need_their_bar, check_split
from levibot_core.validation.leak_report import LeakCheck, LeakReport, verdict
from levibot_core.validation.perturbation import PERTURBATIONS, noise
from levibot_core.validation.split import SplitResult
from levibot_core.validation.static_scan import scan_feature_code

_ATTACKED_INSTANTS = 6
# Rows before an attacked instant whose bits are compared, beside the whole history once.
_COMPARED_BARS = 48
_FUNDING_DAYS = 7


@dataclass(frozen=True, slots=True)
class _Market:
    """What features are computed from, and how."""

    candles: pl.DataFrame
    funding: pl.DataFrame
    feature_set: FeatureSet
    timeframe: Timeframe
    leader: str
    kernels: Mapping[str, Kernel]

    def features(self, candles: pl.DataFrame, funding: pl.DataFrame) -> pl.DataFrame:
        return compute_features(candles, funding, self.feature_set, self.timeframe, self.leader, kernels=self.kernels)

    def around(self, instant_ms: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The candles and funding that matter near the instant, as far into the future as windows reach back."""
        reach = self.feature_set.warm_up * self.timeframe.milliseconds
        compared = _COMPARED_BARS * self.timeframe.milliseconds
        near = pl.col("ts").dt.epoch("ms").is_between(instant_ms - reach - compared, instant_ms + reach)
        days = _FUNDING_DAYS * MILLISECONDS_PER_DAY + reach + compared
        settled = pl.col("ts").dt.epoch("ms").is_between(instant_ms - days, instant_ms + reach)
        return self.candles.filter(near), self.funding.filter(settled)


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
) -> LeakReport:
    """Attack the features, and hold labels and split against their definitions.

    Args:
        candles: One revision per symbol and bar that the split's rows were made from; warm-up before them is welcome.
        funding: One revision per symbol and settlement; may be empty.
        feature_set: The set the rows carry.
        timeframe: Length of a bar.
        horizon_bars: Horizon of the label.
        split: The parts a model is trained, chosen, calibrated and tested on.
        seed: Chooses the attacked instants and the noise.
        leader: The leading market.
        kernels: The families' kernels; see `compute_features`.
    """
    market = _Market(candles, funding, feature_set, timeframe, leader, kernels)
    random = np.random.default_rng(seed)
    rows = pl.concat(list(split.parts.values())).sort(FEATURES.key)
    instants = _instants(rows, random)
    whole = market.features(candles, funding)
    return LeakReport(
        (
            _attack(market, whole, instants, random),
            _check_rows(market, whole, rows),
            check_labels(candles, timeframe, horizon_bars, rows),
            check_labels_need_their_bar(candles, timeframe, horizon_bars, instants),
            check_split(split),
            _check_code(),
        )
    )


def _instants(rows: pl.DataFrame, random: np.random.Generator) -> list[int]:
    """Decision times to attack, away from both ends of the rows."""
    times = rows["known_at"].dt.epoch("ms").unique().sort().to_numpy()
    inner = times[times.size // 10 : times.size - times.size // 10]
    return sorted(random.choice(inner, size=min(_ATTACKED_INSTANTS, inner.size), replace=False).tolist())


def _attack(market: _Market, whole: pl.DataFrame, instants: Sequence[int], random: np.random.Generator) -> LeakCheck:
    names = market.feature_set.names
    found: list[str] = []
    compared = 0
    for instant in instants:
        candles, funding = market.around(instant)
        before = _known_by(market.features(candles, funding), instant)
        for words, perturb in PERTURBATIONS.items():
            changed = market.features(perturb(candles, instant, random), perturb(funding, instant, random))
            found += _differences(
                before, _known_by(changed, instant), names, f"when what follows {_utc(instant)} is {words}"
            )
            compared += before.height
    middle = instants[len(instants) // 2]
    before = _known_by(whole, middle)
    changed = market.features(noise(market.candles, middle, random), noise(market.funding, middle, random))
    found += _differences(before, _known_by(changed, middle), names, f"when all that follows {_utc(middle)} is noise")
    return verdict(
        "features_ignore_the_future",
        found,
        f"{compared + before.height:,} rows of {len(names)} features kept their bits under {len(PERTURBATIONS)} kinds "
        f"of change at {len(instants)} instants",
    )


def _check_rows(market: _Market, whole: pl.DataFrame, rows: pl.DataFrame) -> LeakCheck:
    """The rows trained on are what the kernels give, not something fitted or shifted afterwards."""
    names = market.feature_set.names
    settled_ms = market.feature_set.warm_up * market.timeframe.milliseconds
    settled = pl.col("ts") >= market.candles["ts"].min() + pl.duration(milliseconds=settled_ms, time_unit="ms")
    given = rows.filter(settled).select(*FEATURES.polars_schema, *names)
    computed = given.select(FEATURES.key).join(whole, on=FEATURES.key, how="left", maintain_order="left")
    found = list(_differences(given, computed, ("known_at", *names), "when computed from the candles again"))
    return verdict("rows_are_what_the_kernels_give", found, f"{given.height:,} rows have the same bits")


def _check_code() -> LeakCheck:
    folders = [Path(path) for package in (levibot_core.features, levibot_core.labels) for path in package.__path__]
    found = [str(finding) for folder in folders for finding in scan_feature_code(folder)]
    return verdict("code_has_no_look_ahead", found, "no negative shift, centred window or fill from the future")


def _known_by(features: pl.DataFrame, instant_ms: int) -> pl.DataFrame:
    return features.filter(pl.col("known_at").dt.epoch("ms") <= instant_ms)


def _differences(before: pl.DataFrame, after: pl.DataFrame, names: Sequence[str], when: str) -> Iterator[str]:
    """Columns whose bits differ between two tables that should be the same, with the number of rows."""
    if not before.select(FEATURES.key).equals(after.select(FEATURES.key)):
        yield f"{before.height} rows become {after.height}, or others, {when}"
        return
    for name in names:
        one, other = (_bits(frame[name]) for frame in (before, after))
        if changed := int((one != other).sum()):
            yield f"{name} changes in {changed} of {before.height} rows {when}"


def _bits(column: pl.Series) -> npt.NDArray[np.int64]:
    values = column.to_physical().fill_null(0).to_numpy()
    return np.ascontiguousarray(values).view(np.int64)


def _utc(instant_ms: int) -> str:
    return datetime.fromtimestamp(instant_ms / 1000, UTC).isoformat(timespec="minutes")
