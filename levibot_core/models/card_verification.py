"""Holding a model card against figures computed again: every number, compared exactly, each mismatch by its path.

How the figures are computed again is the caller's work, by the code that measured them first; so a card that says
something else was altered, or its snapshot, bundle or recipe was. Latency depends on the machine of the moment: it is
reported beside the card and is never a mismatch.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

# What says when, by whom or how fast, and what needs the past: the registry of that day, the machine of that moment.
_OF_THE_MOMENT = {
    "latency": "measured anew, see below: it depends on the machine",
    "reproduction.rebuild": "`levibot models rebuild` does it again",
    "judgement.at": "an instant of the past",
    "judgement.trading": "it counts every trial ever run, and more may have been run since",
    "judgement.trading_gates": "as the figures they judge",
    "ensemble.reason": "the sentence of the training; of an ensemble, its figures are computed again",
    "tuning.resumed": "an event of the past",
}
_EXPENSIVE = {
    "spread": "trained again with --deep only",
    "leakage": "attacked again with --deep only",
}


class Mismatch(BaseModel):
    """One figure that is not what it should be."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(description="Where on the card, such as metrics.test.auc")
    on_the_card: Any
    recomputed: Any


class VerificationReport(BaseModel):
    """What came of a verification."""

    model_config = ConfigDict(frozen=True)

    version: int | None = None
    checked: int = Field(description="Values compared")
    mismatches: tuple[Mismatch, ...]
    not_checked: dict[str, str] = Field(description="Part of the card to the reason")
    latency: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="Percentile to its milliseconds on the card and now"
    )

    @property
    def mismatched(self) -> int:
        """How many."""
        return len(self.mismatches)


def compare_cards(card: Mapping[str, Any], recomputed: Mapping[str, Any], deep: bool) -> VerificationReport:
    """Compare a card with the same card computed again, value by value.

    A number that is an integer on the one and the same float on the other is the same; nothing else is rounded.

    Args:
        card: The card as it is kept.
        recomputed: A card of the same model, built anew; parts that were not computed anew may be anything.
        deep: Whether the expensive parts were.
    """
    left_out = {**_OF_THE_MOMENT, **({} if deep else _EXPENSIVE)}
    left_out = {path: reason for path, reason in left_out.items() if _at(card, path) not in (None, [])}
    kept, again = (_leaves(side, left_out) for side in (card, recomputed))
    paths = sorted(kept.keys() | again.keys())
    mismatches = tuple(
        Mismatch(path=path, on_the_card=kept.get(path, _ABSENT), recomputed=again.get(path, _ABSENT))
        for path in paths
        if path not in kept or path not in again or not _same(kept[path], again[path])
    )
    return VerificationReport(
        version=card["model"]["version"],
        checked=len(paths),
        mismatches=mismatches,
        not_checked=left_out,
        latency={
            name: {"on_the_card": card["latency"][name], "now": recomputed["latency"][name]}
            for name in card["latency"]
            if name.endswith("_ms")
        },
    )


def broken_source(version: int | None, path: str, on_the_card: Any, found: str) -> VerificationReport:
    """The report when what the card was computed from is not what it was: nothing else can be compared then."""
    mismatch = Mismatch(path=path, on_the_card=on_the_card, recomputed=found)
    return VerificationReport(
        version=version,
        checked=1,
        mismatches=(mismatch,),
        not_checked={"everything else": "what it is computed from is not what it was"},
    )


_ABSENT = "absent"


def _leaves(card: Mapping[str, Any], left_out: Mapping[str, str]) -> dict[str, Any]:
    return {path: value for path, value in _walk(card, "") if not _within(path, left_out)}


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _walk(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for place, item in enumerate(value):
            yield from _walk(item, f"{path}[{place}]")
    else:
        yield path, value


def _within(path: str, left_out: Mapping[str, str]) -> bool:
    return any(path == part or path.startswith((f"{part}.", f"{part}[")) for part in left_out)


def _at(card: Mapping[str, Any], path: str) -> Any:
    found: Any = card
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _same(kept: Any, again: Any) -> bool:
    if isinstance(kept, bool) or isinstance(again, bool):
        return kept is again
    return bool(kept == again)
