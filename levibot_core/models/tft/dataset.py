"""From training rows to what the transformer is trained on: windows of scaled features, and one target per window.

A window is decided at its last bar, which is the decoder of the network: all features of that bar are known then, as
are those of the bars before, the encoder. The target of a row is its forward return in units of volatility. It is never
an input: a row's target is known only at its `label_end`, so past targets of a window reach into its future. Nothing is
fitted on targets either (pytorch-forecasting's issue 1112: its GroupNormalizer knows the future of a group): they are
divided by a trailing volatility instead, and the dataset is told to leave them as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from levibot_core.errors import DataQualityError, MissingFeatureError
from levibot_core.models.design import label_vector
from levibot_core.models.scaling import RobustScaler, fit_robust_scaler
from levibot_core.models.tft.configuration import FEATURE_CLIP, TARGET_CLIP, VOLATILITY_FLOOR
from levibot_core.models.tft.features import volatility_feature
from levibot_core.models.tft.windows import RowWindows

if TYPE_CHECKING:
    import pandas as pd
    from pytorch_forecasting import TimeSeriesDataSet

TARGET, TIME, SEGMENT = "target", "bar", "segment"


@dataclass(frozen=True, slots=True)
class TFTData:
    """The rows of the train and the validation part as the network sees them.

    Attributes:
        features: In the order of the inputs.
        windows: Over the rows of both parts, those of train first, scaled and clipped.
        targets: Of every row, float32 (n,), in units of volatility.
        train: Numbers of the train rows at which a window ends, in order of time, int64.
        validation: The same of the validation rows.
        scaler: Fitted on the train rows.
        horizon_bars: Bars from a decision to the close that decides.
    """

    features: tuple[str, ...]
    windows: RowWindows
    targets: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    scaler: RobustScaler
    horizon_bars: int


def tft_data(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    features: Sequence[str],
    *,
    horizon_bars: int,
    window: int,
    bar_ms: int,
) -> TFTData:
    """Scale, cut into windows and set targets; the scaler sees the train rows alone.

    Args:
        train: Training rows: symbol, ts, the features, label and forward_return.
        validation: The same, of later times.
        features: The inputs, one of them a volatility.
        horizon_bars: Bars from a decision to the close that decides.
        window: Bars of a window.
        bar_ms: Length of a bar, milliseconds; a gap between rows ends a window.

    Raises:
        ConfigurationError: no feature is a volatility.
        DataQualityError: a part has no window, or labels of one class only.
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
    """
    volatility = volatility_feature(features)
    parts = {"train": train, "validation": validation}
    values = {part: feature_matrix(rows, features) for part, rows in parts.items()}
    for part, rows in parts.items():
        label_vector(rows, part)
    scaler = fit_robust_scaler(values["train"])
    rows = pl.concat([part.select("symbol", "ts", "forward_return", volatility) for part in parts.values()])
    scaled = np.clip(scaler.apply(np.concatenate(list(values.values()))), -FEATURE_CLIP, FEATURE_CLIP)
    windows = row_windows(rows, scaled.astype(np.float32), window=window, bar_ms=bar_ms)
    numbers = np.arange(rows.height)
    by_time = np.lexsort((rows["symbol"].to_numpy(), rows["ts"].dt.epoch("ms").to_numpy()))
    usable = by_time[windows.complete[by_time]]
    chosen = {
        "train": usable[numbers[usable] < train.height],
        "validation": usable[numbers[usable] >= train.height],
    }
    if short := [part for part, places in chosen.items() if places.size == 0]:
        raise DataQualityError(
            f"Expected windows of {window} successive bars in every part, was none in {' and '.join(short)} "
            f"({train.height} and {validation.height} rows). Train on a longer history, or on one with fewer holes."
        )
    targets = scaled_targets(rows["forward_return"].to_numpy(), rows[volatility].to_numpy(), horizon_bars)
    return TFTData(tuple(features), windows, targets, chosen["train"], chosen["validation"], scaler, horizon_bars)


def feature_matrix(rows: pl.DataFrame, features: Sequence[str]) -> np.ndarray:
    """The values of some features as they are, float64 (n, k).

    Raises:
        MissingFeatureError: a feature is absent, or has a null, NaN or infinite value; the message names each.
    """
    holes = [name for name in features if name not in rows.columns or not rows[name].is_finite().fill_null(False).all()]
    if holes:
        raise MissingFeatureError(
            f"Expected a finite number for each of {len(features)} features in every row, was not so for "
            f"{', '.join(holes)}. Leave such rows out; a missing feature is never answered with a guess."
        )
    return rows.select(pl.col(features).cast(pl.Float64)).to_numpy()


def row_windows(rows: pl.DataFrame, values: np.ndarray, *, window: int, bar_ms: int) -> RowWindows:
    """The windows that end at rows of a frame.

    Args:
        rows: symbol and ts of each row, in any order.
        values: What the windows hold of each row, (n, k); `feature_matrix` for a predictor.
        window: Bars of a window.
        bar_ms: Length of a bar, milliseconds.
    """
    symbols = rows["symbol"].cast(pl.Categorical).to_physical().to_numpy()
    return RowWindows.over(values, symbols, rows["ts"].dt.epoch("ms").to_numpy(), window, bar_ms)


def scaled_targets(forward_return: np.ndarray, volatility: np.ndarray, horizon_bars: int) -> np.ndarray:
    """Returns in units of what the volatility at the decision lets expect over the horizon, clipped, float32 (n,).

    Args:
        forward_return: Return over the horizon, float64 (n,).
        volatility: Per bar, known at the decision, float64 (n,).
        horizon_bars: The horizon.
    """
    expected = np.maximum(volatility, VOLATILITY_FLOOR) * np.sqrt(horizon_bars)
    return np.asarray(np.clip(forward_return / expected, -TARGET_CLIP, TARGET_CLIP), dtype=np.float32)


def dataset_arguments(features: Sequence[str], window: int) -> dict[str, Any]:
    """The arguments of `TimeSeriesDataSet` that can be written as JSON.

    The features of the bar of the decision are known when it is made, so that they are known reals of the decoder.
    Without scalers and with an identity for the target, the dataset fits nothing.
    """
    return {
        "time_idx": TIME,
        "target": TARGET,
        "group_ids": [SEGMENT],
        "min_encoder_length": window - 1,
        "max_encoder_length": window - 1,
        "min_prediction_length": 1,
        "max_prediction_length": 1,
        "time_varying_known_reals": list(features),
        "time_varying_unknown_reals": [],
        "scalers": dict.fromkeys(features),
        "add_relative_time_idx": False,
        "add_target_scales": False,
        "add_encoder_length": False,
        "allow_missing_timesteps": False,
    }


def time_series_dataset(data: TFTData, rows: np.ndarray) -> "TimeSeriesDataSet":
    """pytorch-forecasting's own dataset of the windows that end at some rows.

    The network is built from it. It is trained on the same numbers without it (`.training`): the dataset's loader
    assembles every window in Python, which takes longer than a small network's step.

    Args:
        data: The rows.
        rows: Numbers of rows at which a window ends.
    """
    from pytorch_forecasting import TimeSeriesDataSet
    from pytorch_forecasting.data.encoders import TorchNormalizer

    return TimeSeriesDataSet(
        _frame(data, rows),
        target_normalizer=TorchNormalizer(method="identity", center=False),
        **dataset_arguments(data.features, data.windows.length),
    )


def _frame(data: TFTData, rows: np.ndarray) -> "pd.DataFrame":
    """The bars of each window as a segment of its own: no two windows share a bar, so none can reach into another."""
    import pandas as pd

    length = data.windows.length
    values = data.windows.at(rows).reshape(len(rows) * length, len(data.features))
    frame = pd.DataFrame(values, columns=list(data.features))
    frame[SEGMENT] = np.repeat([f"{number:08d}" for number in range(len(rows))], length)
    frame[TIME] = np.tile(np.arange(length), len(rows))
    # Only the last bar of a window has a target; those before it are not looked at.
    frame[TARGET] = np.float32(0.0)
    frame.loc[length - 1 :: length, TARGET] = data.targets[rows]
    return frame
