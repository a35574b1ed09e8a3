"""The transformer as a forecaster of `model_table`: trained on windows of every known bar, stopped by the newest ones.

Its windows have no holes, so it looks at the recording's bars and not at the thinned rows of the others; an epoch draws
few of its windows, spread over all the time there is.
"""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from benchmarks.forecasters import Known, Score
from benchmarks.market import TIMEFRAME
from levibot_core.models.tft.dataset import feature_matrix, row_windows
from levibot_core.models.tft.export import tft_files
from levibot_core.models.tft.features import tft_features
from levibot_core.models.tft.predictor import TFTPredictor, read_tft
from levibot_core.models.tft.profile import TFT_PROFILES
from levibot_core.models.tft.training import train_tft

# Wider open than `fast`, whose windows are short so that a demo is: five hours, and every window may be drawn.
PROFILE = TFT_PROFILES["fast"].model_copy(
    update={"window": 60, "epochs": 3, "limit_train_batches": 12, "stride": 1},
)
VALIDATION_SHARE = 0.1


def transformer(known: Known) -> Callable[[int], Score]:
    """The network of profile `fast`, windows of 60 bars, three epochs, asked through ONNX Runtime as serving does."""
    bars, features = known.recording.bars, tft_features(known.recording.period.features)
    train, validation = newest_apart(known_bars(known), VALIDATION_SHARE)

    def with_seed(seed: int) -> Score:
        trained = train_tft(
            train, validation, features, PROFILE,
            horizon_bars=known.horizon, bar_ms=TIMEFRAME.milliseconds, seed=seed, accelerator="cpu",
        )  # fmt: skip
        predictor = read_tft(tft_files(trained))
        return lambda rows: forecasts_of(predictor, rows, bars, features)

    return with_seed


def known_bars(known: Known) -> pl.DataFrame:
    """All bars of the recording whose label had ended."""
    bars = known.recording.labelled_bars(known.horizon)
    return bars.filter(pl.col("label_end").dt.epoch("ms") < known.begin_ms)


def newest_apart(bars: pl.DataFrame, share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars in order of time as two parts, the second of about that share; no label of the first reaches into it."""
    begin = bars["known_at"][int(bars.height * (1.0 - share))]
    return bars.filter(pl.col("label_end") < begin), bars.filter(pl.col("known_at") >= begin)


def forecasts_of(
    predictor: TFTPredictor, rows: pl.DataFrame, bars: pl.DataFrame, features: Sequence[str]
) -> np.ndarray:
    """Probability of a rise of each row, float64 (n,); NaN where its window has a hole."""
    since = rows["ts"].min() - pl.duration(milliseconds=predictor.window * TIMEFRAME.milliseconds, time_unit="ms")
    near = bars.filter((pl.col("ts") >= since) & (pl.col("ts") <= rows["ts"].max()))
    windows = row_windows(near, feature_matrix(near, features), window=predictor.window, bar_ms=TIMEFRAME.milliseconds)
    places = rows.join(near.with_row_index("bar"), on=["symbol", "ts"], how="left", maintain_order="left")["bar"]
    asked = places.to_numpy()
    whole = windows.complete[asked]
    found = np.full(rows.height, np.nan)
    found[whole] = predictor.predict(windows.at(asked[whole].astype(np.int64)))
    return found
