"""Promotion gates: what a candidate must show before it may replace the champion.

Pure decisions over measured facts. Measuring them is the work of `levibot_core.models`, `.validation` and `.stores`;
moving an alias is the work of `levibot_pipelines.registry`.
"""

from pydantic import BaseModel, ConfigDict, Field

from levibot_core.config import SourceKind

MAXIMUM_CALIBRATION_ERROR = 0.1
MAXIMUM_LATENCY_P95_MS = 80.0


class LossComparison(BaseModel):
    """Paired difference of log loss, candidate minus reference, on the same rows (nats per row; below 0 is better)."""

    model_config = ConfigDict(frozen=True)

    reference: str = Field(description="What the candidate is compared with, in words")
    mean: float
    lower_95: float
    upper_95: float


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


class GateResult(BaseModel):
    """One gate's verdict and the figures behind it, in words."""

    model_config = ConfigDict(frozen=True)

    gate: str
    passed: bool
    found: str
    required: str


GATE_NAMES = ("leak_check", "calibration", "latency", "beats_champion", "beats_base_rate", "provenance")


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
    )


def _beats(gate: str, comparison: LossComparison | None) -> GateResult:
    required = "log loss below the reference's on the same test rows, with 95 % confidence"
    if comparison is None:
        return GateResult(gate=gate, passed=True, found="there is no champion to beat", required=required)
    found = (
        f"log loss {comparison.mean:+.5f} against {comparison.reference} "
        f"(95 % interval {comparison.lower_95:+.5f} to {comparison.upper_95:+.5f})"
    )
    return GateResult(gate=gate, passed=comparison.upper_95 < 0.0, found=found, required=required)


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
