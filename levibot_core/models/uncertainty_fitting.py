"""Fitting the optional parts of a bundle: the volatility head and the interval of the return, judged, and novelty.

The head is trained on the train part and stopped on the validation part, the interval is adapted over the calibration
part, and both are judged on the test part. What the parts are is in `levibot_core.models.uncertainty`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.errors import DataQualityError
from levibot_core.labels.volatility import realized_volatility
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.models.block_bootstrap import BlockBootstrap, MetricInterval
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.conformal import INTERVAL, AdaptiveConformal, OnlineIntervals, conformity_scores, interval_text
from levibot_core.models.conformal_coverage import CoverageReport, coverage_report
from levibot_core.models.design import design_matrix
from levibot_core.models.novelty import NOVELTY, fit_novelty
from levibot_core.models.volatility import VOLATILITY_BOOSTER, VOLATILITY_SETTINGS
from levibot_core.models.volatility_baselines import HarModel, bar_returns, ewma_volatility, qlike
from levibot_core.models.volatility_fitting import TrainedVolatility, train_volatility
from levibot_core.validation.split import SplitResult

_TARGET = "realized_volatility"
_LEAST_WINDOWS = 4


class UncertaintyReport(BaseModel):
    """What was measured on the head and the interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(description="Trees of the head")
    test_rows: int = Field(description="Test rows in which something was traded, and that every baseline forecasts")
    qlike: dict[str, float] = Field(description="Mean QLIKE on them: `head`, `har_rv` and `ewma`")
    qlike_difference: dict[str, MetricInterval] = Field(
        description="Head less baseline, per baseline; below 0 is better"
    )
    quantile: float = Field(description="Volatilities that the kept interval reaches to either side")
    level: float = Field(description="Share of returns it is to hold")
    kept_coverage: float = Field(description="Share of test returns within the kept interval")
    coverage: dict[str, CoverageReport] = Field(description="Of the online interval, on `calibration` and `test`")


@dataclass(frozen=True, slots=True)
class FittedUncertainty:
    """The parts as `ModelBundle.build` takes them, name to content, and the report."""

    parts: Mapping[str, bytes]
    report: UncertaintyReport


@dataclass(frozen=True, slots=True)
class UncertainModel:
    """A model with the parts that its rows let fit.

    Attributes:
        bundle: The model, with or without parts.
        report: What was measured on them; None without parts.
        absent: Why there are none, in words; None when there are.
    """

    bundle: ModelBundle
    report: UncertaintyReport | None
    absent: str | None


def add_uncertainty(bundle: ModelBundle, split: SplitResult, candles: pl.DataFrame, threads: int = 1) -> UncertainModel:
    """Give a calibrated model its optional parts; leave it as it is where there is too little to fit them on.

    Args:
        bundle: The model.
        split: The rows it was trained and calibrated on.
        candles: Those of the same snapshot.
        threads: Threads to use; they do not change the result.

    Raises:
        MissingFeatureError, UnknownSymbolError: as `design_matrix`.
    """
    try:
        fitted = fit_uncertainty(split, candles, bundle.manifest, threads)
    except DataQualityError as error:
        return UncertainModel(bundle, None, str(error))
    return UncertainModel(bundle.with_parts({**bundle.parts, **fitted.parts}), fitted.report, None)


def add_novelty(bundle: ModelBundle, split: SplitResult) -> ModelBundle:
    """Let a model tell how unlike its training rows a row is.

    Raises:
        MissingFeatureError, UnknownSymbolError: as `design_matrix`.
    """
    manifest = bundle.manifest
    matrix = design_matrix(split.train, manifest.features, manifest.symbols)
    return bundle.with_parts({**bundle.parts, NOVELTY: fit_novelty(matrix[:, :-1])})


def with_same_parts(
    bundle: ModelBundle, like: ModelBundle, split: SplitResult, candles: pl.DataFrame, threads: int
) -> ModelBundle:
    """Give a model that was trained again the kinds of parts that the first one has; bundles of before have fewer."""
    if set(like.parts) - {NOVELTY}:
        bundle = add_uncertainty(bundle, split, candles, threads).bundle
    return add_novelty(bundle, split) if NOVELTY in like.parts else bundle


def fit_uncertainty(
    split: SplitResult, candles: pl.DataFrame, identity: BundleIdentity, threads: int = 1
) -> FittedUncertainty:
    """Fit the head and the interval.

    Args:
        split: The parts, with the identity's features and forward_return.
        candles: The candles that the labels look at: symbol, ts and close, one row per symbol and bar.
        identity: Features, symbols, timeframe, horizon and seed.
        threads: Threads to use; they do not change the result.

    Raises:
        DataQualityError: a part has no row with a volatility above 0, or there are too few rows for an interval; or
            the label is a barrier, whose return is not that over the horizon.
        MissingFeatureError, UnknownSymbolError: as `design_matrix`.
    """
    if identity.triple_barrier is not None:
        raise DataQualityError(
            "Expected returns over the horizon, was returns at the first barrier touched, which end at different "
            "times. Train on LEVIBOT_LABELS=direction for a volatility head and an interval."
        )
    timeframe, horizon = Timeframe.parse(identity.timeframe), identity.horizon_bars
    labels = realized_volatility(candles, timeframe, horizon)
    targets = {part: _targets(rows, labels) for part, rows in split.parts.items()}
    matrices = {part: design_matrix(rows, identity.features, identity.symbols) for part, rows in split.parts.items()}
    trained = train_volatility(
        (matrices["train"], targets["train"]),
        (matrices["validation"], targets["validation"]),
        identity.features,
        horizon,
        identity.seed,
        threads,
    )
    head = trained.head()
    forecasts = {part: head.predict(matrices[part]) for part in ("calibration", "test")}

    conformal = AdaptiveConformal()
    calibration = _run(conformal, split.calibration, forecasts["calibration"])
    conformal.settle()
    kept = conformal.interval()
    lower, upper = kept.apply(forecasts["test"])
    returns = split.test["forward_return"].to_numpy()
    test = _run(conformal, split.test, forecasts["test"])

    baselines = _baselines(candles, labels, split, timeframe, horizon)
    rows, losses = _losses(split.test, targets["test"], forecasts["test"], baselines)
    bootstrap = BlockBootstrap(
        split.test["known_at"].dt.epoch("ms").to_numpy()[rows], horizon * timeframe.milliseconds, identity.seed
    )
    report = UncertaintyReport(
        rounds=trained.rounds,
        test_rows=int(rows.sum()),
        qlike={name: float(loss.mean()) for name, loss in losses.items()},
        qlike_difference={
            name: bootstrap.mean(losses["head"] - loss) for name, loss in losses.items() if name != "head"
        },
        quantile=kept.quantile,
        level=kept.level,
        kept_coverage=float(np.mean((lower <= returns) & (returns <= upper))),
        coverage={
            "calibration": coverage_report(calibration, _times(split.calibration)),
            "test": coverage_report(test, _times(split.test)),
        },
    )
    return FittedUncertainty(_parts(trained, interval_text(kept)), report)


def _parts(trained: TrainedVolatility, interval: str) -> dict[str, bytes]:
    return {
        VOLATILITY_BOOSTER: trained.booster_text.encode(),
        VOLATILITY_SETTINGS: trained.settings_text.encode(),
        INTERVAL: interval.encode(),
    }


def _targets(rows: pl.DataFrame, labels: pl.DataFrame) -> np.ndarray:
    """The realised volatility after each row, (n,); NaN where a bar is missing."""
    joined = rows.select("symbol", "ts").join(labels, on=["symbol", "ts"], how="left", maintain_order="left")
    return joined[_TARGET].fill_null(np.nan).to_numpy()


def _times(rows: pl.DataFrame, column: str = "known_at") -> np.ndarray:
    return rows[column].dt.epoch("ms").to_numpy()


def _run(conformal: AdaptiveConformal, rows: pl.DataFrame, forecast: np.ndarray) -> OnlineIntervals:
    scores = conformity_scores(rows["forward_return"].to_numpy(), forecast)
    return conformal.run(scores, _times(rows), _times(rows, "label_end"))


def _losses(
    rows: pl.DataFrame, targets: np.ndarray, forecast: np.ndarray, baselines: pl.DataFrame
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which rows everybody forecasts and something was traded in, (n,), and the QLIKE of each on them."""
    joined = rows.select("symbol", "ts").join(baselines, on=["symbol", "ts"], how="left", maintain_order="left")
    contenders = {"head": forecast} | {
        name: joined[name].fill_null(np.nan).to_numpy() for name in baselines.columns if name not in ("symbol", "ts")
    }
    usable = np.isfinite(np.column_stack([targets, *contenders.values()])).all(axis=1) & (targets > 0.0)
    return usable, {name: qlike(targets[usable], values[usable]) for name, values in contenders.items()}


def _baselines(
    candles: pl.DataFrame, labels: pl.DataFrame, split: SplitResult, timeframe: Timeframe, horizon: int
) -> pl.DataFrame:
    """HAR-RV and EWMA at every bar, fitted per symbol on labels that ended before the calibration part begins.

    HAR-RV has an hour, a day and a week, as far as the bars to fit on hold several of the longest.
    """
    until_ms = split.boundaries["calibration"]
    fit_on = labels.filter(pl.col("label_end").dt.epoch("ms") <= until_ms).select("symbol", "ts", _TARGET)
    day = MILLISECONDS_PER_DAY // timeframe.milliseconds
    parts = []
    for own in candles.sort("symbol", "ts").partition_by("symbol", maintain_order=True):
        bars = own.select("symbol", "ts", "close").join(fit_on, on=["symbol", "ts"], how="left", maintain_order="left")
        returns = bar_returns(_times(bars, "ts"), bars["close"].to_numpy(), timeframe.milliseconds)
        fitted = bars.height - bars[_TARGET].null_count()
        lengths = sorted({max(2, length) for length in (day // 24, day, 7 * day)})
        components = [length for length in lengths if _LEAST_WINDOWS * length <= fitted]
        model = HarModel.fit(returns, bars[_TARGET].fill_null(np.nan).to_numpy(), components, horizon)
        parts.append(
            bars.select("symbol", "ts").with_columns(
                har_rv=pl.Series(model.predict(returns)), ewma=pl.Series(ewma_volatility(returns, horizon))
            )
        )
    return pl.concat(parts)
