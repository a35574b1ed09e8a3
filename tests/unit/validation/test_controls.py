"""Controls on small markets: nothing to find is refused, a large edge is found, and the same seed gives the same."""

import polars as pl
import pytest

from levibot_core.errors import SnapshotError
from levibot_core.validation.controls import Control, ControlOutcome, control_rows, run_control, summarise

_SMALL = {"days": 90, "symbols": ("BTC/USDT",)}


@pytest.fixture(scope="module")
def outcomes() -> list[ControlOutcome]:
    kinds = [{"edge": 0.0}, {"edge": 0.4, "shuffled": True}, {"edge": 0.4}]
    return [run_control(Control(seed=seed, **_SMALL, **kind)) for kind in kinds for seed in (1, 2)]


def test_nothing_to_find_is_refused_and_a_large_edge_is_promoted(outcomes: list[ControlOutcome]) -> None:
    summaries = {summary.name: summary for summary in summarise(outcomes)}
    assert list(summaries) == ["no edge", "shuffled labels", "edge 0.4"]
    assert {name: summary.promoted for name, summary in summaries.items()} == {
        "no edge": 0,
        "shuffled labels": 0,
        "edge 0.4": 2,
    }
    assert all(outcome.refused_by == ("beats_base_rate",) for outcome in outcomes[:4])
    assert all(outcome.area.lower_95 > 0.6 for outcome in outcomes[4:])
    found = summaries["edge 0.4"]
    assert (found.controls, found.within_noise) == (2, 0)
    assert found.lowest_area <= found.mean_area <= found.highest_area
    # None of two: up to 1 - 0.025 ** (1 / 2) of all such markets could be promoted; of two, at least the rest.
    assert summaries["no edge"].promoted_95 == (0.0, pytest.approx(1 - 0.025**0.5))
    assert found.promoted_95 == (pytest.approx(0.025**0.5), 1.0)


def test_a_control_is_the_same_every_time(outcomes: list[ControlOutcome]) -> None:
    assert run_control(outcomes[0].control) == outcomes[0]


def test_shuffling_deals_the_same_labels_to_other_rows() -> None:
    plain, shuffled = (control_rows(Control(seed=1, edge=0.4, shuffled=flag, **_SMALL)) for flag in (False, True))
    assert plain.drop("label").equals(shuffled.drop("label"))
    assert plain["label"].sum() == shuffled["label"].sum()
    assert 0.4 < (plain["label"] == shuffled["label"]).mean() < 0.6
    assert plain.select(pl.all_horizontal(pl.exclude("symbol").is_not_null()).all()).item()


def test_a_market_that_is_too_short_is_refused() -> None:
    with pytest.raises(SnapshotError, match="Take more days"):
        run_control(Control(seed=1, edge=0.0, days=5, horizon_bars=288))
