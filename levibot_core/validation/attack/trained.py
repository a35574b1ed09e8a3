"""The attack on a finished training: what is in the bundle is what its own rows give, whatever later rows say.

The base rate and the calibrator are fitted again from the same parts and compared with those kept; forecasts and
positions are attacked on a stretch of the test part. Features, labels and split are attacked in
`levibot_core.validation.leakage`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from levibot_core.backtest.engine import BacktestParameters, BacktestResult, run_backtest
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.base_rate import fit_base_rate
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.calibration_fitting import fit_calibrator_of
from levibot_core.models.design import label_vector
from levibot_core.models.ensemble_bundle import members_of
from levibot_core.models.row_forecasts import forecast_rows, predict_rows, split_with_windows
from levibot_core.schemas import TRAINING_ROWS
from levibot_core.validation.attack.bits import Fingerprints
from levibot_core.validation.attack.fitting import attack_boundaries, attack_fit, attack_forecasts
from levibot_core.validation.attack.instants import inner_instants
from levibot_core.validation.attack.trading import attack_positions, check_fills, trading_window
from levibot_core.validation.leak_report import LeakCheck
from levibot_core.validation.split import SplitResult, split_boundaries

# Decision times of the test part whose forecasts and positions are attacked.
_STRETCH = 400
# Of a model that looks at windows, beyond the bars of one: its forecasts take longer.
_STRETCH_OF_WINDOWS = 60
_INSTANTS = 2
_SCORE = "score of "


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a training left: the bundle, and the base rate that its report holds it against."""

    bundle: ModelBundle
    base_rate: float


def attack_trained_model(
    model: TrainedModel, split: SplitResult, candles: pl.DataFrame, timeframe: Timeframe, random: np.random.Generator
) -> Iterator[LeakCheck]:
    """Boundaries, base rate, calibrator, forecasts and positions, each attacked with what follows its own rows.

    Args:
        model: What was trained, chosen and calibrated on the parts of `split`.
        split: The parts.
        candles: One revision per symbol and bar.
        timeframe: Length of a bar.
        random: Draws noise and instants.
    """
    split = split_with_windows(model.bundle.manifest, split)
    rows = pl.concat([part.select(TRAINING_ROWS.polars_schema.names()) for part in split.parts.values()])
    # The calibrations of an ensemble are those of its members.
    calibrated = members_of(model.bundle) or {"calibrator": model.bundle}
    scored = _scored(calibrated, split)
    yield attack_boundaries(split_boundaries, rows, random)
    base_rate = {"base rate": np.float64(model.base_rate).tobytes()}
    yield attack_fit("statistics_ignore_later_rows", _base_rate, scored, "train", random, base_rate)
    curves = {name: bundle.calibrator.to_json().encode() for name, bundle in calibrated.items()}
    yield attack_fit(
        "calibration_ignores_later_rows", partial(_calibrators, list(curves)), scored, "calibration", random, curves
    )
    stretch, instants = _attacked(model.bundle.manifest.window, split.test, random)
    yield attack_forecasts(lambda part: _forecasts(model.bundle, part), stretch, instants, random)
    yield from _positions(stretch, instants, candles, timeframe, random)


def _positions(
    stretch: pl.DataFrame, instants: list[int], candles: pl.DataFrame, timeframe: Timeframe, random: np.random.Generator
) -> Iterator[LeakCheck]:
    """The engine of the backtest, on forecasts of every kind: a cautious model would leave it nothing to do."""
    decided = stretch["known_at"].dt.epoch("ms").to_numpy()
    bars = trading_window(candles, int(decided.min()) - timeframe.milliseconds)
    bars = bars.filter(pl.col("known_at").dt.epoch("ms") <= int(decided.max()) + timeframe.milliseconds)
    probe = stretch.select("symbol", "ts", "known_at", prob_up=pl.Series(random.random(stretch.height)))

    def trade(window: pl.DataFrame, forecasts: pl.DataFrame) -> BacktestResult:
        return run_backtest(window, forecasts, timeframe, BacktestParameters())

    yield attack_positions(trade, bars, probe, instants, random)
    yield check_fills(trade(bars, probe), bars, probe)


def _scored(bundles: Mapping[str, ModelBundle], split: SplitResult) -> SplitResult:
    """The parts with raw scores of the models in place of the features; only those of the calibrators are scored."""
    parts = {}
    for name, part in split.parts.items():
        scores = {
            _SCORE + model: forecast_rows(bundle.predict_raw, bundle.manifest, part, split.history)
            if name == "calibration"
            else np.full(part.height, 0.5)
            for model, bundle in bundles.items()
        }
        parts[name] = part.select(TRAINING_ROWS.polars_schema.names()).with_columns(**scores)
    return split.with_parts(parts)


def _base_rate(split: SplitResult) -> Fingerprints:
    return {"base rate": np.float64(fit_base_rate(split.train["label"].to_numpy())).tobytes()}


def _calibrators(models: Sequence[str], split: SplitResult) -> Fingerprints:
    rows = split.calibration
    labels = label_vector(rows, "calibration")
    return {
        model: fit_calibrator_of(rows, rows[_SCORE + model].to_numpy(), labels).calibrator.to_json().encode()
        for model in models
    }


def _forecasts(bundle: ModelBundle, rows: pl.DataFrame) -> pl.DataFrame:
    # One window at a time: how many are forecast together changes the last bits of a transformer's answer.
    probabilities = predict_rows(bundle, rows, rows_at_once=1) if rows.height else np.empty(0)
    found = rows.select("symbol", "ts", "known_at", prob_up=pl.Series(probabilities, dtype=pl.Float64))
    return found.filter(pl.col("prob_up").is_not_nan())


def _attacked(window: int, rows: pl.DataFrame, random: np.random.Generator) -> tuple[pl.DataFrame, list[int]]:
    """Some successive rows and instants in them, at which there are forecasts already."""
    stretch = _stretch(rows, random, _STRETCH if window == 1 else window + _STRETCH_OF_WINDOWS)
    times = stretch["known_at"].unique().sort()
    forecast = stretch.filter(pl.col("known_at") >= times[min(window, times.len()) - 1])
    return stretch, inner_instants(forecast, _INSTANTS, random)


def _stretch(rows: pl.DataFrame, random: np.random.Generator, length: int) -> pl.DataFrame:
    """The rows of some successive decision times."""
    times = rows["known_at"].unique().sort()
    first = int(random.integers(0, max(times.len() - length, 0) + 1))
    chosen = times[first : first + length]
    return rows.filter(pl.col("known_at").is_between(chosen[0], chosen[-1]))
