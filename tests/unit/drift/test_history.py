from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from levibot_core.drift.history import FEWEST_ROWS, psi_history
from levibot_core.drift.plots import psi_history_png
from levibot_core.drift.psi import population_stability_index
from levibot_core.errors import DataQualityError
from levibot_core.schemas import TIMESTAMP

END = datetime(2026, 1, 29, tzinfo=UTC)
DAY_MS = 86_400_000
FEATURES = ("calm", "moved", "constant")


def rows(days: int, per_day: int = 300, moved_in_last_days: int = 0) -> pl.DataFrame:
    """Rows at even distances that end with a decision at END; `moved` is shifted on the last days."""
    count = days * per_day
    generator = np.random.default_rng(3)
    step = timedelta(days=1) / per_day
    known_at = pl.Series([END - step * place for place in reversed(range(count))]).cast(TIMESTAMP)
    late = np.arange(count) >= count - moved_in_last_days * per_day
    return pl.DataFrame(
        {
            "known_at": known_at,
            "calm": generator.normal(size=count),
            "moved": generator.normal(size=count) + 2.0 * late,
            "constant": np.ones(count),
        }
    )


def test_a_shift_shows_in_the_window_it_happened_in_and_in_no_other() -> None:
    history = psi_history(rows(20), rows(28, moved_in_last_days=7), FEATURES, 7 * DAY_MS, windows=26)
    assert history["window_end"].unique().sort().to_list() == [END - timedelta(days=7 * week) for week in (3, 2, 1, 0)]
    assert (history["window_end"] - history["window_start"]).unique().to_list() == [timedelta(days=7)]
    assert history["rows"].unique().to_list() == [2100]
    newest = history.filter(pl.col("window_end") == END)
    assert dict(newest.select("feature", "level").iter_rows()) == {"calm": "ok", "moved": "critical", "constant": "ok"}
    assert (history.filter(pl.col("window_end") < END)["level"] == "ok").all()


def test_each_window_has_the_index_of_its_own_rows() -> None:
    reference, now = rows(20), rows(14, moved_in_last_days=3)
    history = psi_history(reference, now, ("moved",), 7 * DAY_MS, windows=1)
    (found,) = history.iter_rows(named=True)
    week = now.filter(pl.col("known_at") > END - timedelta(days=7))["moved"].to_numpy()
    assert found["rows"] == week.size
    assert found["psi"] == population_stability_index(reference["moved"].to_numpy(), week)


def test_a_window_with_hardly_any_rows_is_left_out_and_none_at_all_is_refused() -> None:
    few = rows(8, per_day=FEWEST_ROWS // 4)
    assert psi_history(rows(20), few, FEATURES, 7 * DAY_MS, windows=9)["window_end"].unique().to_list() == [END]
    for nothing in (few.tail(FEWEST_ROWS - 1), few.clear()):
        with pytest.raises(DataQualityError, match="at least 200"):
            psi_history(rows(20), nothing, FEATURES, 7 * DAY_MS, windows=9)


def test_the_picture_marks_where_the_training_data_ends() -> None:
    history = psi_history(rows(20), rows(28, moved_in_last_days=7), FEATURES, 7 * DAY_MS, windows=26)
    trained = END - timedelta(days=7)
    picture = psi_history_png(history, trained, "weeks")
    assert picture.startswith(b"\x89PNG")
    assert psi_history_png(history, END, "weeks") != picture
