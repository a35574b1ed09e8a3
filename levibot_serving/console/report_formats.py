"""What the console takes from the JSON reports of a home: the fields it shows, and no more.

The whole formats belong to those who write them: `levibot_core.models.card`, `levibot_core.backtest.report`,
`levibot_core.validation.sequential_verdict` and the Dagster assets of drift and promotion. Fields that are not shown
are ignored, so that a report may grow.
"""

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Report(BaseModel):
    """Base of all: immutable, other fields ignored, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())


class FeatureDrift(Report):
    """One feature's drift."""

    feature: str
    psi: float = Field(ge=0, description="Population stability index")
    level: Literal["ok", "warning", "critical"]


class DriftReport(Report):
    """`reports/drift/latest.json`."""

    level: Literal["ok", "warning", "critical"]
    report_day: date
    champion_version: int
    critical_features: int
    warning_features: int
    features: tuple[FeatureDrift, ...] = Field(description="Highest index first")


class Evidence(Report):
    """What one kind of difference says."""

    better: float = Field(ge=0, description="E-value that the contender is better, after the newest block")
    better_peak: float = Field(ge=0)
    worse: float = Field(ge=0)
    worse_peak: float = Field(ge=0)
    mean: float | None = None
    lower_95: float
    upper_95: float


class Verdict(Report):
    """What the blocks so far say."""

    blocks: int
    days: float
    log_loss: Evidence
    pnl: Evidence
    worse: float
    worse_peak: float
    expected_days: float | None = Field(None, description="From the first block on; None where not in sight")


class ComparisonReport(Report):
    """`reports/promotion/<kind>.json`; of a home with nothing to compare, `action` alone."""

    action: str
    contender: int | None = None
    reference: int | None = None
    decisive: float | None = None
    verdict: Verdict | None = None


class Gate(Report):
    """One gate's verdict."""

    gate: str
    passed: bool
    found: str
    required: str


class Judgement(Report):
    """What the gates said."""

    at: datetime
    gates: tuple[Gate, ...]
    trading_gates: tuple[Gate, ...] = ()


class CardModel(Report):
    """Which model a card is about."""

    family: str
    horizon_bars: int = Field(ge=1)


class PartMetrics(Report):
    """Figures on rows that nothing was fitted or chosen on."""

    rows: float
    log_loss: float
    auc: float
    ece: float
    base_rate: float


class CardMetrics(Report):
    """Figures by part; the test part is the one shown."""

    test: PartMetrics


class Reliability(Report):
    """Forecast against frequency per bin, on test rows."""

    predicted: tuple[float, ...] = Field(min_length=1)
    observed: tuple[float, ...]
    counts: tuple[int, ...]


class BaseRate(Report):
    """Share of rises in the training rows, and what always saying it costs."""

    probability: float
    log_loss: dict[str, float]


class Calibration(Report):
    """How scores became probabilities."""

    method: str


class LossDifference(Report):
    """Log loss less that of a reference, nats a row; below 0 is better."""

    reference: str
    mean: float
    lower_95: float
    upper_95: float


class CardProvenance(Report):
    """Where its data came from."""

    source_kind: str
    snapshot_id: str


class ModelCard(Report):
    """`reports/model_cards/v<version>.json`."""

    created_at: datetime
    model: CardModel
    metrics: CardMetrics
    base_rate: BaseRate
    calibration: Calibration
    reliability: Reliability
    provenance: CardProvenance
    against_base_rate: LossDifference | None = None
    judgement: Judgement | None = None


class BacktestContext(Report):
    """What a backtest is about."""

    title: str
    model_name: str
    model_version: int
    source: str
    reasons: tuple[str, ...] = ()


class BacktestFigures(Report):
    """Figures of one account; fractions, not percent."""

    total_return: float
    sharpe: float | None = None
    max_drawdown: float
    trades: int


class BacktestMetrics(Report):
    """The strategy, and buying and holding beside it."""

    strategy: BacktestFigures
    buy_and_hold: BacktestFigures


class BacktestReport(Report):
    """`reports/backtests/<name>.json`."""

    context: BacktestContext
    start: datetime
    end: datetime
    timeframe: str
    symbols: tuple[str, ...]
    metrics: BacktestMetrics
