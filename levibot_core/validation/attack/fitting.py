"""The attack on what is fitted: a statistic, scaler, model or calibrator must not notice rows later than its own.

The parts of a split that follow a stage's own are changed, and the stage is fitted again from the same earlier rows.
Market tables are attacked in `.features`; here rows are changed directly, so that a finding names the stage at fault.
"""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from levibot_core.errors import LevibotError
from levibot_core.schemas import TRAINING_ROWS
from levibot_core.validation.attack.bits import Fingerprints, changed, differences, known_by, utc
from levibot_core.validation.leak_report import LeakCheck, verdict
from levibot_core.validation.split import PARTS, SplitResult

Fit = Callable[[SplitResult], Fingerprints]
"""From a split to the exact bytes of what was fitted on it."""
Boundaries = Callable[[pl.DataFrame], Mapping[str, int]]
"""From training rows to each part's first decision time."""
Forecasting = Callable[[pl.DataFrame], pl.DataFrame]
"""From training rows to symbol, ts, known_at and prob_up."""
RowChange = Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]

_FORECAST_KEY = ("symbol", "ts")


def cut_off(rows: pl.DataFrame, _: np.random.Generator) -> pl.DataFrame:
    """No rows."""
    return rows.clear()


def replaced_by_noise(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Other features and labels in the same rows."""
    names = _features(rows)
    values = rows.select(names).to_numpy()
    noisy = values * random.choice([0.5, 2.0]) * random.lognormal(0.0, 0.5, values.shape)
    labels = pl.Series("label", random.integers(0, 2, rows.height), rows.schema["label"])
    returns = pl.Series("forward_return", random.normal(0.0, 0.05, rows.height))
    return rows.with_columns(*pl.DataFrame(noisy, schema=names), labels, returns)


def shuffled(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """The features and labels dealt out anew among the rows."""
    names = ["label", "forward_return", *_features(rows)]
    return rows.with_columns(*rows.select(names)[random.permutation(rows.height)])


def with_opposite_labels(rows: pl.DataFrame, _: np.random.Generator) -> pl.DataFrame:
    """The same rows with the other label."""
    return rows.with_columns(
        label=(1 - pl.col("label")).cast(rows.schema["label"]), forward_return=-pl.col("forward_return")
    )


def extended(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """As many invented rows again."""
    return pl.concat([rows, replaced_by_noise(rows, random)])


ROW_CHANGES: Mapping[str, RowChange] = {
    "cut off": cut_off,
    "replaced by noise": replaced_by_noise,
    "shuffled": shuffled,
    "given the opposite labels": with_opposite_labels,
    "extended by invented rows": extended,
}
# What leaves every decision time as it is.
_VALUE_CHANGES = ("replaced by noise", "shuffled", "given the opposite labels")


def attack_fit(
    name: str,
    fit: Fit,
    split: SplitResult,
    last_part: str,
    random: np.random.Generator,
    fitted: Fingerprints | None = None,
) -> LeakCheck:
    """Change all parts after `last_part` and demand the same bytes.

    Args:
        name: Name of the check.
        fit: The stage under attack.
        split: The clean split.
        last_part: The last part the stage may look at.
        random: Draws the noise.
        fitted: What the stage gave, where that is known already, such as the files of a finished training.
    """
    found: list[str] = []
    before = fit(split) if fitted is None else fitted
    later = PARTS[PARTS.index(last_part) + 1 :]
    for words, change in ROW_CHANGES.items():
        when = f"when what follows the {last_part} part is {words}"
        parts = {part: change(split.parts[part], random) for part in later}
        try:
            found += changed(before, fit(split.with_parts(parts)), when)
        except (LevibotError, ValueError, ArithmeticError) as error:
            found.append(f"{', '.join(before)} cannot be fitted {when} ({error})")
    return verdict(
        name,
        found,
        f"{', '.join(before)} kept every byte under {len(ROW_CHANGES)} kinds of change to {', '.join(later)}",
    )


def attack_boundaries(boundaries: Boundaries, rows: pl.DataFrame, random: np.random.Generator) -> LeakCheck:
    """Change the values of the rows after each boundary: neither it nor an earlier one may move."""
    found: list[str] = []
    before = boundaries(rows)
    for name, start in before.items():
        later = pl.col("label_end").dt.epoch("ms") > start
        for words in _VALUE_CHANGES:
            altered = pl.concat([rows.filter(~later), ROW_CHANGES[words](rows.filter(later), random)])
            moved = [
                other for other, was in boundaries(altered).items() if was != before[other] and before[other] <= start
            ]
            found += (f"the begin of {other} moves when what follows that of {name} is {words}" for other in moved)
    return verdict(
        "boundaries_ignore_values",
        found,
        f"{len(before)} boundaries stayed under {len(_VALUE_CHANGES)} kinds of change to the rows after each",
    )


def attack_forecasts(
    forecast: Forecasting, rows: pl.DataFrame, instants_ms: list[int], random: np.random.Generator
) -> LeakCheck:
    """Change the rows decided after an instant: a calibrated probability at or before it keeps its bits."""
    found: list[str] = []
    compared = 0
    whole = forecast(rows)
    for instant in instants_ms:
        before = known_by(whole, instant).sort(_FORECAST_KEY)
        later = pl.col("known_at").dt.epoch("ms") > instant
        for words in ("cut off", *_VALUE_CHANGES):
            altered = pl.concat([rows.filter(~later), ROW_CHANGES[words](rows.filter(later), random)])
            after = known_by(forecast(altered), instant).sort(_FORECAST_KEY)
            when = f"when what follows {utc(instant)} is {words}"
            found += differences(before, after, _FORECAST_KEY, ("prob_up",), when)
            compared += before.height
    return verdict(
        "forecasts_ignore_the_future",
        found,
        f"{compared:,} calibrated probabilities kept their bits at {len(instants_ms)} instants",
    )


def _features(rows: pl.DataFrame) -> list[str]:
    return [
        name for name, dtype in rows.schema.items() if dtype == pl.Float64 and name not in TRAINING_ROWS.polars_schema
    ]
