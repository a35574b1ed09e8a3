"""Gates: what a candidate must show before it may replace the champion, and what before it may be traded.

The two are different questions. A champion is the best forecaster there is, by log loss on untouched rows; whether it
earns more than its costs is asked of its policy, and the answer may be that nobody should trade. So a model whose
policy stays flat can be promoted, but never traded, and a model is not promoted because of what its policy earned.

Pure decisions over measured facts. Measuring them is the work of `levibot_core.models`, `.validation` and `.stores`;
moving an alias is the work of `levibot_pipelines.registry`.
"""

from pydantic import BaseModel, ConfigDict, Field

from levibot_core.config import SourceKind

MAXIMUM_CALIBRATION_ERROR = 0.1
MAXIMUM_LATENCY_P95_MS = 80.0
MINIMUM_DEFLATED_SHARPE = 0.95
MAXIMUM_OVERFITTING = 0.5


class LossComparison(BaseModel):
    """Paired difference of log loss, candidate minus reference, on the same rows (nats per row; below 0 is better)."""

    model_config = ConfigDict(frozen=True)

    reference: str = Field(description="What the candidate is compared with, in words")
    mean: float
    lower_95: float
    upper_95: float
    upper_999: float = Field(description="The true difference is below it with 99.9 %, one-sided confidence")


class TradingFacts(BaseModel):
    """What the after-cost returns of a policy are worth, given everything that was ever tried. Ratios are per day.

    Measured by `levibot_core.validation.trading_evidence`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    days: int = Field(ge=0, description="Days of returns of the policy on untouched rows")
    sharpe: float | None = Field(description="None where the policy is flat: it never traded")
    probabilistic_sharpe: float | None = Field(
        description="Probability of a true ratio above 0, had nothing been tried"
    )
    deflated_sharpe: float | None = Field(description="The same above the best of as many worthless trials")
    expected_maximum_sharpe: float | None = Field(description="The ratio of the best of as many worthless trials")
    trials: int = Field(ge=0, description="Trials of the lifetime ledger")
    effective_trials: int = Field(ge=0, description="How many of them are different")
    minimum_track_record_days: float | None = Field(description="None where no length would do")
    trials_traded: int = Field(ge=0, description="Trials of this training that traded")
    overfitting: float | None = Field(description="Probability of backtest overfitting; None where not estimated")


class GateFacts(BaseModel):
    """Everything the gates look at."""

    model_config = ConfigDict(frozen=True)

    leak_check_passed: bool
    leak_check_failures: tuple[str, ...] = ()
    calibration_error: float = Field(description="Expected calibration error on the test rows")
    latency_p95_ms: float
    against_champion: LossComparison | None = Field(description="None when there is no champion yet")
    against_base_rate: LossComparison
    snapshot_verified: bool
    code_version: str
    source_kind: SourceKind
    champion_source_kind: str | None
    rebuild_passed: bool | None = Field(None, description="None before the model was rebuilt")
    rebuild_detail: str = Field("", description="What the rebuild found, in words")
    trading: TradingFacts | None = Field(None, description="None before the policy was measured")


class GateResult(BaseModel):
    """One gate's verdict and the figures behind it, in words."""

    model_config = ConfigDict(frozen=True)

    gate: str
    passed: bool
    found: str
    required: str


GATE_NAMES = ("leak_check", "calibration", "latency", "beats_champion", "beats_base_rate", "provenance", "rebuild")
TRADING_GATE_NAMES = ("deflated_sharpe", "overfitting", "track_record")


def evaluate_gates(facts: GateFacts) -> tuple[GateResult, ...]:
    """Judge a candidate. One result per name of `GATE_NAMES`, in that order; every gate is always evaluated."""
    return (
        GateResult(
            gate="leak_check",
            passed=facts.leak_check_passed,
            found="no leak found" if facts.leak_check_passed else "; ".join(facts.leak_check_failures),
            required="features, labels and split use nothing from the future",
        ),
        GateResult(
            gate="calibration",
            passed=facts.calibration_error < MAXIMUM_CALIBRATION_ERROR,
            found=f"expected calibration error {facts.calibration_error:.4f}",
            required=f"below {MAXIMUM_CALIBRATION_ERROR} on the test rows",
        ),
        GateResult(
            gate="latency",
            passed=facts.latency_p95_ms <= MAXIMUM_LATENCY_P95_MS,
            found=f"p95 {facts.latency_p95_ms:.3f} ms",
            required=f"at most {MAXIMUM_LATENCY_P95_MS:.0f} ms for one row",
        ),
        _beats("beats_champion", facts.against_champion),
        _beats("beats_base_rate", facts.against_base_rate),
        _provenance(facts),
        rebuild_gate(facts),
    )


def rebuild_gate(facts: GateFacts) -> GateResult:
    """Whether the model could be made again from its id. A model that was not rebuilt is not promoted."""
    verdict = {True: "rebuilt the same", False: "rebuilt differently", None: "not rebuilt yet"}[facts.rebuild_passed]
    return GateResult(
        gate="rebuild",
        passed=facts.rebuild_passed is True,
        found=f"{verdict}: {facts.rebuild_detail}" if facts.rebuild_detail else verdict,
        required="trained again from its id, the model is the same",
    )


def evaluate_trading_gates(facts: GateFacts) -> tuple[GateResult, ...]:
    """Judge whether the policy may be traded. One result per name of `TRADING_GATE_NAMES`, in that order.

    A failed one is no reason against promotion; see `reasons_against_trading`.
    """
    return (
        _deflated_sharpe(facts.trading),
        _overfitting(facts.trading),
        _track_record(facts.trading),
    )


def reasons_against_trading(results: tuple[GateResult, ...]) -> tuple[str, ...]:
    """The failed trading gates in words, beside those of `levibot_core.backtest.metrics`; empty when all passed."""
    return tuple(f"{result.found} (required: {result.required})" for result in results if not result.passed)


def _deflated_sharpe(facts: TradingFacts | None) -> GateResult:
    passed = False
    if facts is None:
        found = "the policy's returns were not measured"
    elif facts.sharpe is None or facts.deflated_sharpe is None:
        found = "the policy is flat: nothing to deflate"
    else:
        passed = facts.deflated_sharpe >= MINIMUM_DEFLATED_SHARPE
        found = (
            f"deflated Sharpe ratio {facts.deflated_sharpe:.3f}, naive {facts.probabilistic_sharpe or 0.0:.3f}: "
            f"{facts.sharpe:+.3f} per day, the best of {facts.effective_trials:,} different worthless trials "
            f"{facts.expected_maximum_sharpe or 0.0:+.3f} ({facts.trials:,} tried)"
        )
    required = f"at least {MINIMUM_DEFLATED_SHARPE} with every trial ever run counted"
    return GateResult(gate="deflated_sharpe", passed=passed, found=found, required=required)


def _overfitting(facts: TradingFacts | None) -> GateResult:
    passed = False
    if facts is None:
        found = "the trials' returns were not measured"
    elif facts.trials_traded < 2:
        passed, found = True, f"nothing was chosen by trading: {facts.trials_traded} of the trials traded"
    elif facts.overfitting is None:
        found = f"too few days to tell for {facts.trials_traded} trials that traded"
    else:
        passed = facts.overfitting <= MAXIMUM_OVERFITTING
        found = (
            f"probability of backtest overfitting {facts.overfitting:.3f} of {facts.trials_traded} trials that traded"
        )
    required = f"at most {MAXIMUM_OVERFITTING} where at least two trials traded"
    return GateResult(gate="overfitting", passed=passed, found=found, required=required)


def _track_record(facts: TradingFacts | None) -> GateResult:
    passed = False
    if facts is None:
        found = "the policy's returns were not measured"
    elif facts.minimum_track_record_days is None:
        found = f"{facts.days} days without a positive Sharpe ratio, which no length makes good"
    else:
        passed = facts.days >= facts.minimum_track_record_days
        found = f"{facts.days} days where {facts.minimum_track_record_days:.0f} are needed"
    required = "long enough to tell the Sharpe ratio from 0 with 95 % confidence"
    return GateResult(gate="track_record", passed=passed, found=found, required=required)


def _beats(gate: str, comparison: LossComparison | None) -> GateResult:
    # One candidate a night is judged: at 95 % a model without any skill would be promoted about once a month, at 99 %
    # three times a year. 99.9 % is once in three years.
    required = "log loss below the reference's on the same test rows, with 99.9 % confidence"
    if comparison is None:
        return GateResult(gate=gate, passed=True, found="there is no champion to beat", required=required)
    found = (
        f"log loss {comparison.mean:+.5f} against {comparison.reference} "
        f"(95 % interval {comparison.lower_95:+.5f} to {comparison.upper_95:+.5f}; with 99.9 % confidence below "
        f"{comparison.upper_999:+.5f})"
    )
    return GateResult(gate=gate, passed=comparison.upper_999 < 0.0, found=found, required=required)


def _provenance(facts: GateFacts) -> GateResult:
    problems = []
    if not facts.snapshot_verified:
        problems.append("the training snapshot does not have the checksum in its name")
    if not facts.code_version:
        problems.append("the code version is unknown")
    if facts.source_kind == "simulated" and facts.champion_source_kind in ("exchange", "recorded"):
        problems.append("trained on simulated data, while the champion was trained on a real market")
    return GateResult(
        gate="provenance",
        passed=not problems,
        found="; ".join(problems) or f"{facts.source_kind} data, verified snapshot, code {facts.code_version[:12]}",
        required="a verified snapshot, known code, and no simulated model over a real one",
    )
