"""Controls: markets where the right answer is known, put through training, calibration and the gates.

Negative controls have nothing to find: a simulated market without an edge, and a market with one whose labels were
shuffled. Whatever is promoted there is a false promotion. Positive controls have a planted edge of known size: how
often it is found and promoted is the power of the gates. What a control does not examine (leaks, latency, provenance)
is taken as passed, so that every refusal is about the forecasts.

The leak attack, which plants mistakes instead of edges, is in `levibot_core.validation.attack`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.config import TrainingProfile
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_core.labels.direction import direction_labels
from levibot_core.market.simulator import ANCHOR_MS, SimulationParameters
from levibot_core.market.sources.simulated import SimulatedSource
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.models.auc import AreaUnderCurve, area_under_curve
from levibot_core.models.base_rate import fit_base_rate
from levibot_core.models.calibration_fitting import fit_calibrator_of
from levibot_core.models.design import LabelledMatrix, design_matrix, label_vector
from levibot_core.models.lightgbm_model import LightGBMTrainer
from levibot_core.models.metrics import expected_calibration_error
from levibot_core.models.predictors import matrix_columns, read_booster
from levibot_core.schemas import FUNDING_RATES
from levibot_core.validation.comparison import compare_with_constants
from levibot_core.validation.exact_share import exact_share_95
from levibot_core.validation.gates import GateFacts, LossComparison, evaluate_gates
from levibot_core.validation.split import SplitPlan, SplitResult, chronological_split

# What a drift that lasts for hours leaves in prices, and what tells a large move from a usual one.
_FEATURES = ("log_return_3", "log_return_12", "log_return_48", "sma_gap_50", "sma_gap_200", "ema_gap_26", "rsi_14")
_CONTEXT = ("realized_volatility_48", "leader_return_12")
_PROFILE = TrainingProfile(
    name="control", trials=1, max_rounds=120, early_stopping_rounds=15, max_bin=63, drift_rows=1000
)
# Cautious, as a market with little to find wants it: few, small, well filled leaves.
_PARAMETERS = {"num_leaves": 7, "min_data_in_leaf": 500, "learning_rate": 0.05, "lambda_l2": 10.0}
_TIMEFRAME = Timeframe.parse("5m")


class Control(BaseModel):
    """A simulated market and what is asked of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(ge=0)
    edge: float = Field(ge=0, le=1, description="As the simulator plants it; 0 is a market without")
    shuffled: bool = Field(False, description="Whether labels are dealt out anew among the rows")
    days: int = Field(240, ge=5)
    symbols: tuple[str, ...] = ("BTC/USDT", "ETH/USDT")
    horizon_bars: int = Field(12, ge=1)

    @property
    def name(self) -> str:
        """What kind of control it is, in words, whatever its seed."""
        if self.shuffled:
            return "shuffled labels"
        return f"edge {self.edge:g}" if self.edge else "no edge"


@dataclass(frozen=True, slots=True)
class ControlOutcome:
    """What became of one control, on its untouched rows.

    Attributes:
        control: Which.
        area: Area under the ROC curve of the booster's scores, with its interval. Calibration only ever flattens them:
            of the probabilities it would often be 0.5 exactly.
        against_base_rate: Log loss less that of the base rate, nats per row.
        refused_by: Names of the gates that refused; empty if the model was promoted.
    """

    control: Control
    area: AreaUnderCurve
    against_base_rate: LossComparison
    refused_by: tuple[str, ...]

    @property
    def promoted(self) -> bool:
        """Whether every gate passed."""
        return not self.refused_by


@dataclass(frozen=True, slots=True)
class ControlSummary:
    """The outcomes of one kind of control over its seeds.

    Attributes:
        name: The kind.
        controls: How many there were.
        promoted: How many of them were promoted: false promotions of a negative control, the power of a positive one.
        promoted_95: Lower and upper limit of the share of such markets that would be promoted, as `exact_share_95`.
        mean_area: Mean area under the ROC curve.
        lowest_area: The lowest.
        highest_area: The highest.
        within_noise: In how many the area's 95 % interval holds 0.5.
        within_noise_95: Lower and upper limit of the share of such markets where it would.
    """

    name: str
    controls: int
    promoted: int
    promoted_95: tuple[float, float]
    mean_area: float
    lowest_area: float
    highest_area: float
    within_noise: int
    within_noise_95: tuple[float, float]


def run_control(control: Control) -> ControlOutcome:
    """Simulate, train, calibrate and judge. Deterministic; one thread.

    Raises:
        SnapshotError: the market is too short for the parts of the split.
        DataQualityError: a part has one class only.
    """
    split = chronological_split(
        control_rows(control), SplitPlan(embargo_ms=control.horizon_bars * _TIMEFRAME.milliseconds)
    )
    scores, probabilities = _forecast(control, split)
    labels = label_vector(split.test, "test")
    times = split.test["ts"].dt.epoch("ms").to_numpy()
    base_rate = fit_base_rate(label_vector(split.train, "train"))
    against = compare_with_constants(probabilities, labels, times, control.horizon_bars, base_rate)
    facts = GateFacts(
        leak_check_passed=True,
        calibration_error=expected_calibration_error(probabilities, labels),
        latency_p95_ms=0.0,
        against_champion=None,
        against_base_rate=against,
        snapshot_verified=True,
        code_version="control",
        source_kind="simulated",
        champion_source_kind=None,
        rebuild_passed=True,
        rebuild_detail="a control is not rebuilt: it is the same every time",
    )
    refused = tuple(result.gate for result in evaluate_gates(facts) if not result.passed)
    return ControlOutcome(control, area_under_curve(scores, labels, control.horizon_bars, times), against, refused)


def summarise(outcomes: Iterable[ControlOutcome]) -> tuple[ControlSummary, ...]:
    """One summary per kind of control, in the order of first appearance."""
    kinds: dict[str, list[ControlOutcome]] = {}
    for outcome in outcomes:
        kinds.setdefault(outcome.control.name, []).append(outcome)
    return tuple(_summary(name, group) for name, group in kinds.items())


def _summary(name: str, group: list[ControlOutcome]) -> ControlSummary:
    promoted = sum(outcome.promoted for outcome in group)
    within_noise = sum(outcome.area.lower_95 <= 0.5 <= outcome.area.upper_95 for outcome in group)
    return ControlSummary(
        name=name,
        controls=len(group),
        promoted=promoted,
        promoted_95=exact_share_95(promoted, len(group)),
        mean_area=fmean(outcome.area.value for outcome in group),
        lowest_area=min(outcome.area.value for outcome in group),
        highest_area=max(outcome.area.value for outcome in group),
        within_noise=within_noise,
        within_noise_95=exact_share_95(within_noise, len(group)),
    )


def control_rows(control: Control) -> pl.DataFrame:
    """Training rows of the control's market: features without NaN, joined with the labels there are."""
    end_ms = ANCHOR_MS + control.days * MILLISECONDS_PER_DAY
    parameters = SimulationParameters(seed=control.seed, edge=control.edge)
    source = SimulatedSource(parameters, _TIMEFRAME, clock=lambda: end_ms)
    candles = pl.concat(source.candles(symbol, "spot", _TIMEFRAME, ANCHOR_MS, end_ms) for symbol in control.symbols)
    features = compute_features(candles, FUNDING_RATES.empty(), _feature_set(), _TIMEFRAME)
    whole = features.filter(pl.all_horizontal(pl.col(_feature_set().names).is_finite()))
    rows = whole.join(
        direction_labels(candles, _TIMEFRAME, control.horizon_bars), on=["symbol", "ts"], maintain_order="left"
    )
    if not control.shuffled:
        return rows
    order = np.random.default_rng([control.seed, rows.height]).permutation(rows.height)
    return rows.with_columns(pl.col("label").gather(order))


def _feature_set() -> FeatureSet:
    whole = load_registry("v1")
    return FeatureSet(whole.version, tuple(spec for spec in whole.features if spec.name in _FEATURES + _CONTEXT))


def _forecast(control: Control, split: SplitResult) -> tuple[np.ndarray, np.ndarray]:
    """Scores and calibrated probabilities of the test rows, float64 (n,): one quick booster, and its calibrator."""
    names = _feature_set().names
    train, validation, calibration, test = (
        design_matrix(part, names, control.symbols) for part in split.parts.values()
    )
    trainer = LightGBMTrainer(
        LabelledMatrix(train, label_vector(split.train, "train")),
        LabelledMatrix(validation, label_vector(split.validation, "validation")),
        names,
        _PROFILE,
        control.seed,
        threads=1,
    )
    predictor = read_booster(trainer.train(_PARAMETERS).text, matrix_columns(names))
    choice = fit_calibrator_of(
        split.calibration, predictor.predict(calibration), label_vector(split.calibration, "calibration")
    )
    scores = predictor.predict(test)
    return scores, choice.calibrator.apply(scores)
