from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.forecast_files import ForecastFiles
from benchmarks.forecasters import Known, Score
from benchmarks.market import TIMEFRAME
from benchmarks.periods import Period, Recording, Stretch
from benchmarks.transformer import forecasts_of, newest_apart
from benchmarks.walk_forward import BLOCK_MS, Entry, blocks_of, known_to, scores
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.models.tft.predictor import TFTPredictor
from levibot_core.schemas import TIMESTAMP

START_MS = 1_735_689_600_000
SYMBOLS = ("BTC/USDT", "ETH/USDT")
BARS = 30 * 288
RECENT_MS = START_MS + 5 * MILLISECONDS_PER_DAY
PERIOD = Period(
    "example",
    Stretch(SYMBOLS, START_MS, RECENT_MS),
    Stretch(SYMBOLS, RECENT_MS, START_MS + BARS * TIMEFRAME.milliseconds),
    every_bars=4,
    with_funding=False,
)


def recording() -> Recording:
    """Random walks of two symbols over 30 days, one column of noise as the only feature."""
    random = np.random.default_rng(1)
    open_ms = np.tile(START_MS + TIMEFRAME.milliseconds * np.arange(BARS), len(SYMBOLS))
    candles = pl.DataFrame(
        {
            "symbol": np.repeat(SYMBOLS, BARS),
            "ts": pl.Series(open_ms).cast(TIMESTAMP),
            "known_at": pl.Series(open_ms + TIMEFRAME.milliseconds).cast(TIMESTAMP),
            "close": 100.0 * np.exp(np.cumsum(random.normal(0.0, 1e-3, open_ms.size))),
            "noise": random.normal(size=open_ms.size),
        }
    ).sort("known_at", "symbol")
    rows = candles.select("symbol", "ts", "known_at").with_columns(place=pl.int_range(pl.len()))
    return Recording(PERIOD, candles, rows, candles.select("noise").to_numpy(), candles.drop("close"))


RECORDING = recording()


def epoch(values: pl.Series) -> np.ndarray:
    return values.dt.epoch("ms").to_numpy()


def noisy(known: Known) -> Callable[[int], Score]:
    """Something of every row it was trained on, and of the seed."""
    level = 1e-3 * float(known.rows["label"].to_numpy().mean())
    return lambda seed: lambda rows: 0.5 + level * seed + 1e-2 * known.recording.matrix[rows["place"].to_numpy(), 0]


@pytest.mark.parametrize("horizon", [5, 48])
def test_no_label_that_is_learnt_from_reaches_into_the_block(horizon: int) -> None:
    blocks = blocks_of(RECORDING.labelled(horizon), 3)
    assert [block.number for block in blocks] == [0, 1, 2]
    for block in blocks:
        assert epoch(block.known["label_end"]).max() < block.begin_ms == epoch(block.ahead["known_at"]).min()
        assert epoch(block.ahead["known_at"]).max() < block.begin_ms + BLOCK_MS
        # And no more is left out than has to be: a row of every symbol ends just before.
        assert block.begin_ms - epoch(block.known["label_end"]).max() == TIMEFRAME.milliseconds


def test_ours_learn_from_all_that_was_known_and_thin_the_recent_bars_alone() -> None:
    block = blocks_of(RECORDING.labelled(5), 3)[1]
    rows = known_to(Entry(noisy, None, 1, False, 1), block, RECORDING, 5).rows
    opens = epoch(rows["ts"])
    older = opens < RECENT_MS
    assert np.count_nonzero(older) == len(SYMBOLS) * 5 * 288
    assert (opens[~older] // TIMEFRAME.milliseconds % PERIOD.every_bars == 0).all()
    days = known_to(Entry(noisy, 3, 1, False, 1), block, RECORDING, 5).rows
    assert epoch(days["known_at"]).min() == block.begin_ms - 3 * MILLISECONDS_PER_DAY
    assert days.height == len(SYMBOLS) * (3 * 288 - 5)


def test_an_interrupted_run_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    blocks = blocks_of(RECORDING.labelled(5), 3)
    trained: list[int] = []
    fails_at: int | None = blocks[1].begin_ms

    def fit(known: Known) -> Callable[[int], Score]:
        if known.begin_ms == fails_at:
            raise KeyboardInterrupt
        trained.append(known.begin_ms)
        return noisy(known)

    entry = Entry(fit, None, 1, True, 2)
    with pytest.raises(KeyboardInterrupt):
        scores(RECORDING, blocks, entry, 5, 2, ForecastFiles(tmp_path))
    assert trained == [blocks[0].begin_ms]
    assert scores(RECORDING, blocks, entry, 5, 2, ForecastFiles(tmp_path), kept_only=True) == []
    fails_at = None
    resumed = scores(RECORDING, blocks, entry, 5, 2, ForecastFiles(tmp_path))
    assert trained == [block.begin_ms for block in blocks]
    at_once = scores(RECORDING, blocks, entry, 5, 2, ForecastFiles(None))
    for one, other, seed in zip(resumed, at_once, (0, 1), strict=True):
        assert one.equals(other)
        assert one["seed"].unique().to_list() == [seed]
        assert one["place"].to_list() == pl.concat(block.ahead for block in blocks)["place"].to_list()
    assert len(scores(RECORDING, blocks, entry, 5, 2, ForecastFiles(tmp_path), kept_only=True)) == 2


def test_one_training_forecasts_several_blocks_and_only_those_that_count_where_nothing_is_calibrated() -> None:
    blocks = blocks_of(RECORDING.labelled(5), 3)
    begins: list[int] = []

    def fit(known: Known) -> Callable[[int], Score]:
        begins.append(known.begin_ms)
        return noisy(known)

    (frame,) = scores(RECORDING, blocks, Entry(fit, None, 2, True, 1), 5, 5, ForecastFiles(None))
    assert begins == [blocks[0].begin_ms, blocks[2].begin_ms]
    assert frame["fold"].unique(maintain_order=True).to_list() == [0, 1, 2]


def test_scores_of_other_settings_lie_elsewhere(tmp_path: Path) -> None:
    one = ForecastFiles.of(tmp_path, "case", "model", {"rounds": 1})
    other = ForecastFiles.of(tmp_path, "case", "model", {"rounds": 2})
    one.kept("seed_0/from_block_00", lambda: pl.DataFrame({"score": [0.5]}))
    assert one.has("seed_0/from_block_00")
    assert not other.has("seed_0/from_block_00")
    assert ForecastFiles.of(tmp_path, "case", "model", {"rounds": 1}) == one


def test_the_transformer_is_stopped_by_bars_that_no_label_it_learns_from_reaches() -> None:
    train, validation = newest_apart(RECORDING.labelled_bars(48), 0.1)
    assert epoch(train["label_end"]).max() < epoch(validation["known_at"]).min()
    assert 0.08 < validation.height / (train.height + validation.height) < 0.12


def test_the_transformer_does_not_forecast_a_row_whose_window_has_a_hole() -> None:
    class LastValue(TFTPredictor):
        """The newest value of the window."""

        window = 4

        def __init__(self) -> None:
            """Without a network."""

        def predict(self, windows: np.ndarray) -> np.ndarray:
            return np.asarray(windows[:, -1, 0])

    hole = pl.lit(START_MS + 1000 * TIMEFRAME.milliseconds).cast(TIMESTAMP)
    bars = RECORDING.bars.filter((pl.col("ts") != hole) | (pl.col("symbol") != SYMBOLS[0]))
    rows = bars.filter(pl.col("ts").is_between(hole - pl.duration(hours=1), hole + pl.duration(hours=1)))
    found = forecasts_of(LastValue(), rows, bars, ["noise"])
    after = (rows["symbol"] == SYMBOLS[0]).to_numpy() & (rows["ts"] > hole_of(hole)).to_numpy()
    without = np.flatnonzero(np.isnan(found))
    assert without.tolist() == np.flatnonzero(after)[:3].tolist()
    np.testing.assert_array_equal(np.delete(found, without), np.delete(rows["noise"].to_numpy(), without))


def hole_of(expression: pl.Expr) -> object:
    return pl.select(expression).item()
