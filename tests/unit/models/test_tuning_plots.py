import struct
from io import BytesIO

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

from levibot_core.models.candidate import Candidate
from levibot_core.models.tuning_plots import parameters_png, pareto_front, tuning_history_png, tuning_plots

RED, GREEN = "#c0392b", "#3f9c6d"


def colours_in(png: bytes) -> set[str]:
    channels = (imread(BytesIO(png))[:, :, :3] * 255).round().astype(np.int64)
    return {f"#{colour:06x}" for colour in np.unique(channels @ [65536, 256, 1])}


def size_of(png: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_every_plot_of_a_search_is_drawn(candidate: Candidate) -> None:
    plots = tuning_plots(candidate.tuning, 0.693, "LightGBM")
    assert list(plots) == ["tuning_history", "tuning_objectives", "tuning_parameters"]
    assert all(min(size_of(png)) > 200 for png in plots.values())
    assert GREEN in colours_in(plots["tuning_objectives"])
    assert parameters_png({}, "What matters to LightGBM") != plots["tuning_parameters"]


def test_the_history_shows_pruned_trials_apart() -> None:
    trials = pl.DataFrame(
        {
            "trial": [1, 2, 3, 4],
            "state": ["complete", "pruned", "complete", "complete"],
            "log_loss": [0.7, 0.69, 0.6, 0.65],
        }
    )
    assert RED in colours_in(tuning_history_png(trials, 0.693, "search"))
    assert RED not in colours_in(tuning_history_png(trials.filter(pl.col("state") == "complete"), 0.693, "search"))


@pytest.mark.parametrize("seed", range(5))
def test_the_front_holds_what_no_other_trial_beats_in_both(seed: int) -> None:
    random = np.random.default_rng(seed)
    loss, sharpe = random.integers(0, 9, 30) / 10, random.integers(-4, 5, 30) / 10
    front = pareto_front(pl.DataFrame({"log_loss": loss, "sharpe_per_day": sharpe}))
    points = set(zip(loss, sharpe, strict=True))
    expected = {(x, y) for x, y in points if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)}
    assert sorted(expected) == front.rows()
