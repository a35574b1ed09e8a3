"""The attack on a whole pipeline, stage by stage, then end to end.

Each stage is given clean inputs up to an instant and changed ones after it, so that a failed check names the stage at
fault. The stages are in `.pipeline`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import polars as pl

from levibot_core.backtest.engine import BacktestResult
from levibot_core.errors import LevibotError
from levibot_core.models.calibration import Calibrator, IdentityCalibrator
from levibot_core.models.scaling import RobustScaler
from levibot_core.schemas import FEATURES
from levibot_core.stores.training_rows import newest_revisions
from levibot_core.validation.attack.bits import Fingerprints, changed, differences, known_by, utc
from levibot_core.validation.attack.features import attack_features
from levibot_core.validation.attack.fitting import attack_boundaries, attack_fit, attack_forecasts
from levibot_core.validation.attack.instants import attacked_instants, inner_instants
from levibot_core.validation.attack.pipeline import FittedModel, Pipeline
from levibot_core.validation.attack.trading import attack_positions, check_fills, positions_by_bar, trading_window
from levibot_core.validation.definition_checks import check_labels, check_labels_need_their_bar, check_split
from levibot_core.validation.leak_report import LeakCheck, LeakReport, verdict
from levibot_core.validation.perturbation import PERTURBATIONS, MarketTables, correct
from levibot_core.validation.split import SplitResult

FEATURE_INSTANTS = 6
_ROW_INSTANTS = 2
# A label is read as it is known in the end, so that a whole run may notice a correction of what came before.
_WITHOUT_CORRECTIONS = {words: perturb for words, perturb in PERTURBATIONS.items() if perturb is not correct}


@dataclass(frozen=True)
class _Run:
    """What one run of the pipeline gave; `candles` are the bars of the backtest."""

    rows: pl.DataFrame
    split: SplitResult
    scaler: RobustScaler
    model: FittedModel
    calibrator: Calibrator
    forecasts: pl.DataFrame
    candles: pl.DataFrame
    backtest: BacktestResult

    @property
    def decisions(self) -> pl.Series:
        """The closes of all bars of the rows, also of those a symbol lacks."""
        return self.rows["known_at"]

    @property
    def fitted(self) -> tuple[Fingerprints, ...]:
        """Everything fitted before the test part."""
        scaler = {"scaler": self.scaler.to_json().encode()}
        return scaler, _model(self.model), _calibrator(self.calibrator)

    @property
    def held(self) -> pl.DataFrame:
        """What the strategy held in each bar, with the close of the bar."""
        return positions_by_bar(self.backtest, self.candles).join(
            self.candles.select("symbol", "ts", "known_at"), on=["symbol", "ts"], maintain_order="left"
        )


def attack_pipeline(
    pipeline: Pipeline, market: MarketTables, seed: int, feature_instants: int = FEATURE_INSTANTS
) -> LeakReport:
    """Attack every stage of the pipeline on that market and, where each stands by itself, the pipeline as a whole.

    Args:
        pipeline: The stages.
        market: What it runs on; long enough for rows in every part of the split.
        seed: Chooses the attacked instants and the noise.
        feature_instants: At how many instants features are attacked; what is fitted and traded has fewer.

    Raises:
        LevibotError: the pipeline does not run on the market as it is.
    """
    random = np.random.default_rng(seed)
    settings = pipeline.settings
    horizon, timeframe = settings.horizon_bars, settings.timeframe
    clean = _run(pipeline, market, None)
    candles = newest_revisions(market.candles)
    instants = attacked_instants(market, clean.decisions, timeframe, feature_instants, random)
    forecast_at, traded_at = (
        inner_instants(rows, _ROW_INSTANTS, random) for rows in (clean.split.test, clean.forecasts)
    )
    probe = _probe(clean.forecasts, random)
    checks = (
        attack_features(partial(pipeline.features, settings), market, instants, random),
        check_labels(candles, timeframe, horizon, clean.rows),
        check_labels_need_their_bar(candles, timeframe, horizon, instants, pipeline.labels),
        attack_boundaries(partial(pipeline.boundaries, settings), clean.rows, random),
        check_split(clean.split, settings.plan.embargo_ms),
        *_attack_fits(pipeline, clean, random),
        attack_forecasts(partial(_forecast, pipeline, clean), clean.split.test, forecast_at, random),
        attack_positions(partial(pipeline.backtest, settings), clean.candles, probe, traded_at, random),
        check_fills(pipeline.backtest(settings, clean.candles, probe), clean.candles, probe),
    )
    if not LeakReport(checks).passed:
        return LeakReport(checks)
    return LeakReport((*checks, _attack_whole(pipeline, market, clean, traded_at[len(traded_at) // 2], random)))


class _EveryFeatureCounts:
    """A predictor in place of the booster, to attack what surrounds it."""

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """A rising curve, from 0 to 1, of the weighted sum of the columns, float64 (n,).

        Added up column by column: the bits of a matrix product depend on how many rows there are.
        """
        total = np.zeros(matrix.shape[0])
        for place in range(matrix.shape[1]):
            total += matrix[:, place] / (place + 1.0)
        return 0.5 + 0.5 * total / (1.0 + np.abs(total))


def _run(pipeline: Pipeline, market: MarketTables, boundaries: Mapping[str, int] | None) -> _Run:
    """Every stage in order; with the boundaries of another run when they are given."""
    settings = pipeline.settings
    features = pipeline.whole_features(market)
    rows = pipeline.training_rows(market, features)
    split = pipeline.split(settings, rows, boundaries or pipeline.boundaries(settings, rows))
    scaler = pipeline.scale(settings, split)
    model = pipeline.fit(settings, split, scaler)
    calibrator = pipeline.calibrate(settings, split, model)
    tested = features.filter(pl.col("known_at").dt.epoch("ms") >= split.boundaries["test"])
    forecasts = pipeline.forecast(settings, tested, model, calibrator)
    candles = trading_window(
        newest_revisions(market.candles), split.boundaries["test"] - settings.timeframe.milliseconds
    )
    backtest = pipeline.backtest(settings, candles, forecasts)
    return _Run(rows, split, scaler, model, calibrator, forecasts, candles, backtest)


def _statistics(pipeline: Pipeline, split: SplitResult) -> Fingerprints:
    drift = pipeline.drift(pipeline.settings, split)
    return {
        "scaler": pipeline.scale(pipeline.settings, split).to_json().encode(),
        "base rate": np.float64(pipeline.base_rate(pipeline.settings, split)).tobytes(),
        "drift reference": b"".join(drift[name].to_numpy().tobytes() for name in ("psi",)),
    }


def _model(model: FittedModel) -> Fingerprints:
    return {"model": f"{model.features} {model.booster.text}".encode()}


def _calibrator(calibrator: Calibrator) -> Fingerprints:
    return {"calibrator": calibrator.to_json().encode()}


def _forecast(pipeline: Pipeline, run: _Run, rows: pl.DataFrame) -> pl.DataFrame:
    """Forecasts of a model that answers no two rows alike: trees and calibrators do, and hide whose forecast it is."""
    model = replace(run.model, predictor=_EveryFeatureCounts())
    return pipeline.forecast(pipeline.settings, rows, model, IdentityCalibrator())


def _probe(forecasts: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Forecasts of every kind, so that there are trades to attack whatever the model says."""
    return forecasts.with_columns(prob_up=pl.Series(random.random(forecasts.height)))


def _attack_fits(pipeline: Pipeline, clean: _Run, random: np.random.Generator) -> Iterator[LeakCheck]:
    """Each fitting stage, given what the stages before it fitted on clean rows."""
    settings = pipeline.settings
    yield attack_fit("statistics_ignore_later_rows", partial(_statistics, pipeline), clean.split, "train", random)
    yield attack_fit(
        "model_ignores_later_rows",
        lambda split: _model(pipeline.fit(settings, split, clean.scaler)),
        clean.split,
        "validation",
        random,
        _model(clean.model),
    )
    yield attack_fit(
        "calibration_ignores_later_rows",
        lambda split: _calibrator(pipeline.calibrate(settings, split, clean.model)),
        clean.split,
        "calibration",
        random,
        _calibrator(clean.calibrator),
    )


def _attack_whole(
    pipeline: Pipeline, market: MarketTables, clean: _Run, instant_ms: int, random: np.random.Generator
) -> LeakCheck:
    """Run everything again on a market that differs after an instant of the test part, at the same boundaries."""
    found: list[str] = []
    for words, perturb in _WITHOUT_CORRECTIONS.items():
        when = f"when what follows {utc(instant_ms)} is {words}"
        try:
            other = _run(pipeline, market.perturbed(perturb, instant_ms, random), clean.split.boundaries)
        except (LevibotError, ValueError, ArithmeticError) as error:
            found.append(f"the pipeline does not run {when} ({error})")
            continue
        for fitted, again in zip(clean.fitted, other.fitted, strict=True):
            found += changed(fitted, again, when)
        pairs = ((clean.rows, other.rows), (clean.forecasts, other.forecasts), (clean.held, other.held))
        for frames in pairs:
            before, after = (_finished_by(frame, instant_ms) for frame in frames)
            names = [name for name in before.columns if name not in FEATURES.polars_schema]
            found += differences(before, after, FEATURES.key, names, when)
    return verdict(
        "the_whole_run_ignores_the_future",
        found,
        f"features, labels, fits, forecasts and positions of the whole run kept their bits under "
        f"{len(_WITHOUT_CORRECTIONS)} kinds of change to what follows {utc(instant_ms)}",
    )


def _finished_by(rows: pl.DataFrame, instant_ms: int) -> pl.DataFrame:
    """Rows decided, and where they have a label, labelled by the instant."""
    known = known_by(rows, instant_ms)
    return known.filter(pl.col("label_end").dt.epoch("ms") <= instant_ms) if "label_end" in rows.columns else known
