"""What came to be known later: corrections, and bars, settlements and daily values that arrived late.

Which rows of a snapshot a change touches is `levibot_core.stores.snapshot_audit`'s question.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.stores.frame_difference import compare_frames
from levibot_core.stores.training_rows import TrainingInputs, instant, newest_revisions

ChangeKind = Literal["corrected", "late", "replaced", "lost"]

_PRICES = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class InputChange:
    """One change of one input value.

    Attributes:
        table: `candles`, `funding_rates` or `fear_greed`.
        symbol: Inside spelling; None in a table without symbols.
        ts_ms: Open time, settlement or day of the value, UTC milliseconds.
        kind: `corrected`: a later revision says otherwise. `late`: it was not known when it should have been.
            `replaced` and `lost`: the lake no longer holds what the snapshot was built from.
        old: The values that changed, as they were; None where there were none.
        new: The same values since then; None where there are none any more.
        known_at_ms: When the new values became known, UTC milliseconds; None where the lake does not say.
    """

    table: str
    symbol: str | None
    ts_ms: int
    kind: ChangeKind
    old: dict[str, float] | None
    new: dict[str, float] | None
    known_at_ms: int | None


def as_if_known_at_once(inputs: TrainingInputs, bar_ms: int, as_of_ms: int) -> TrainingInputs:
    """The newest revision of everything that could be known at `as_of_ms`, known from when it could first be.

    A candle can be known from its close on. Settlements and daily values are published with a delay of their own,
    which is kept where it is shorter than a bar; a longer one counts as late.
    """

    def at_once(frame: pl.DataFrame, from_ts_ms: int, tolerated_ms: int) -> pl.DataFrame:
        at_best = pl.col("ts") + pl.duration(milliseconds=from_ts_ms, time_unit="ms")
        key = [name for name in ("symbol", "ts") if name in frame.columns]
        first = pl.col("known_at").min().over(key)
        prompt = first < at_best + pl.duration(milliseconds=tolerated_ms, time_unit="ms")
        known = frame.with_columns(_known=pl.when(prompt).then(first).otherwise(at_best))
        newest = newest_revisions(known).with_columns(known_at="_known", revision=pl.lit(0, pl.Int32)).drop("_known")
        return newest.filter(pl.col("known_at") <= instant(as_of_ms))

    return TrainingInputs(
        at_once(inputs.candles, bar_ms, 0),
        at_once(inputs.funding, 0, bar_ms),
        at_once(inputs.fear_greed, MILLISECONDS_PER_DAY, bar_ms),
    )


def changes_since(inputs: TrainingInputs, bar_ms: int, as_of_ms: int) -> list[InputChange]:
    """Every correction and every late arrival among these revisions, of values that could be known at `as_of_ms`.

    A value that was corrected twice makes two changes. Sorted by table, symbol and ts, in order of knowledge.
    """
    return [
        *_changes("candles", inputs.candles, _PRICES, bar_ms, 0, as_of_ms),
        *_changes("funding_rates", inputs.funding, ("rate",), 0, bar_ms, as_of_ms),
        *_changes("fear_greed", inputs.fear_greed, ("value",), MILLISECONDS_PER_DAY, bar_ms, as_of_ms),
    ]


def changes_behind_our_back(built_from: pl.DataFrame, lake_says: pl.DataFrame) -> list[InputChange]:
    """Candles that the lake holds otherwise than a snapshot does that was built from it, for the same as-of time.

    A gap that was filled after the snapshot was built is such a change: the lake takes a bar it has never seen as
    known from its close on.

    Args:
        built_from: The snapshot's candles: symbol, ts, open, high, low, close, volume.
        lake_says: The same window of the lake as of the same instant.
    """
    key = ["symbol", "ts"]
    before, after = built_from.select(*key, *_PRICES), lake_says.select(*key, *_PRICES)
    difference = compare_frames(before, after, key)
    changes = []
    found: tuple[tuple[pl.DataFrame, ChangeKind], ...] = (
        (difference.gone, "lost"),
        (difference.added, "late"),
        (difference.changed, "replaced"),
    )
    for keys, kind in found:
        rows = keys.select(key).join(before, on=key, how="left", maintain_order="left")
        rows = rows.join(after, on=key, how="left", suffix="_new", maintain_order="left")
        for row in rows.with_columns(pl.col("ts").dt.epoch("ms")).iter_rows(named=True):
            old = None if kind == "late" else {name: row[name] for name in _PRICES}
            new = None if kind == "lost" else {name: row[f"{name}_new"] for name in _PRICES}
            changes.append(_narrowed(InputChange("candles", row["symbol"], row["ts"], kind, old, new, None)))
    return changes


def _changes(
    table: str, frame: pl.DataFrame, values: tuple[str, ...], from_ts_ms: int, tolerated_ms: int, as_of_ms: int
) -> list[InputChange]:
    key = [name for name in ("symbol", "ts") if name in frame.columns]
    revisions = frame.select(*key, "known_at", *values).sort(*key, "known_at")
    correction = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in key).fill_null(value=False)
    at_best = pl.col("ts") + pl.duration(milliseconds=from_ts_ms, time_unit="ms")
    late = pl.col("known_at") >= at_best + pl.duration(milliseconds=max(tolerated_ms, 1), time_unit="ms")
    flagged = revisions.with_columns(pl.col(values).shift().name.suffix("_old"), _correction=correction, _late=late)
    changed = flagged.filter((pl.col("_correction") | pl.col("_late")) & (at_best <= instant(as_of_ms)))
    changes = []
    for row in changed.with_columns(pl.col("ts", "known_at").dt.epoch("ms")).iter_rows(named=True):
        old = {name: row[f"{name}_old"] for name in values} if row["_correction"] else None
        new = {name: row[name] for name in values}
        kind: ChangeKind = "corrected" if row["_correction"] else "late"
        change = InputChange(table, row.get("symbol"), row["ts"], kind, old, new, row["known_at"])
        changes.append(_narrowed(change))
    return changes


def _narrowed(change: InputChange) -> InputChange:
    """The change with only the values that are not the same before and after."""
    if change.old is None or change.new is None:
        return change
    names = [name for name in change.old if change.old[name] != change.new[name]]

    def kept(values: dict[str, Any]) -> dict[str, Any]:
        return {name: values[name] for name in names}

    return replace(change, old=kept(change.old), new=kept(change.new))
