"""What goes on a model card, section by section, as its collectors hand it over. Laying it out is `.card`'s work."""

import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from levibot_core.models.bundle import BundleManifest
from levibot_core.models.candidate import CalibrationReport
from levibot_core.models.ensemble_candidate import EnsembleVerdict
from levibot_core.models.rebuild import RebuildReport
from levibot_core.models.recipe import Recipe
from levibot_core.models.shap_values import ShapSample
from levibot_core.models.spread import SpreadReport
from levibot_core.validation.gates import GateResult, LossComparison, TradingFacts
from levibot_core.validation.leak_report import LeakReport
from levibot_core.validation.split import SplitResult


class Section(BaseModel):
    """Base of all sections: immutable, nothing unknown, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PartSummary(Section):
    """One part of the split: decision times of its first and last row, rows, and rows purged at its end."""

    start: AwareDatetime
    end: AwareDatetime
    rows: int
    purged: int


class TuningSummary(Section):
    """What the search did and found."""

    profile: str
    study_name: str
    trials: int = Field(description="Finished: completed or pruned")
    pruned: int
    resumed: int = Field(description="Finished by an earlier run that was interrupted")
    best_parameters: dict[str, bool | int | float | str]
    best_rounds: int
    best_validation_log_loss: float = Field(description="Before calibration, nats")


class LatencySummary(Section):
    """Duration of single-row predictions, from feature values to probability, in milliseconds."""

    warm_up: int
    timed: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float


class Provenance(Section):
    """Where data and code came from, beside what the bundle's manifest already says."""

    source_key: str
    venue: str
    source_description: str
    snapshot_checksum: str
    features_sha256: str
    code_version: str = Field(description="Git commit and hash of the sources")
    libraries: dict[str, str] = Field(description="Name to version")


class Reproduction(Section):
    """What a rebuild needs beside the data, and whether one came out the same."""

    threads: int
    uncommitted_changes: bool | None = Field(description="None outside a git checkout")
    constraints_sha256: str | None
    trials_digest: str = Field(description="Of the table of finished trials, without their durations")
    rebuild: RebuildReport | None = Field(description="None when none was tried")


class Interval(Section):
    """A figure with its 95 % confidence interval."""

    value: float
    lower_95: float
    upper_95: float


class ImportantColumn(Section):
    """A column of the design matrix and how much its values move forecasts."""

    feature: str
    mean_abs_shap: float = Field(description="In log-odds, before calibration")
    share: float = Field(description="Of the sum over all columns")


class ShapSummary(Section):
    """What moves the forecasts of untouched rows, strongest first."""

    rows: int
    columns: tuple[ImportantColumn, ...]


class Judgement(Section):
    """What the promotion gates said, and what they compared."""

    at: AwareDatetime
    gates: tuple[GateResult, ...]
    champion_version: int | None = Field(description="The champion it was compared with; None when there was none")
    against_champion: LossComparison | None
    sharpe: float | None = Field(None, description="Of the backtest on the test rows, after costs, annualised")
    trading: TradingFacts | None = Field(None, description="None where the policy was not measured")
    trading_gates: tuple[GateResult, ...] = Field((), description="Whether it may be traded, which is another question")


class EnsembleSection(Section):
    """Whether the families of this training are worth more together than the best of them."""

    reason: str
    verdict: EnsembleVerdict | None = Field(description="None where no ensemble could be made")


class CardInputs(Section):
    """All that goes on a card."""

    manifest: BundleManifest
    version: int | None = Field(None, description="Of the registered model; None before it is registered")
    parts: dict[str, PartSummary]
    report: CalibrationReport
    against_base_rate: LossComparison
    intervals: dict[str, Interval] = Field(default_factory=dict, description="Figure of the test rows to its interval")
    shap: ShapSummary | None = Field(description="None for a family without SHAP values")
    leakage: LeakReport
    latency: LatencySummary
    tuning: TuningSummary
    spread: SpreadReport | None
    provenance: Provenance
    reproduction: Reproduction
    ensemble: EnsembleSection | None = Field(None, description="None where none was tried")


def part_summaries(split: SplitResult) -> dict[str, PartSummary]:
    """The parts of a split as the card shows them."""
    return {
        name: PartSummary(
            start=rows["known_at"].min(), end=rows["known_at"].max(), rows=rows.height, purged=split.purged[name]
        )
        for name, rows in split.parts.items()
    }


def tuning_summary(recipe: Recipe, trials: pl.DataFrame) -> TuningSummary:
    """A search as the card shows it, from its recipe and the table of finished trials."""
    return TuningSummary(
        profile=recipe.profile.name,
        study_name=recipe.study_name,
        trials=trials.height,
        pruned=int((trials["state"] == "pruned").sum()),
        resumed=recipe.resumed,
        best_parameters=recipe.parameters,
        best_rounds=recipe.rounds,
        best_validation_log_loss=recipe.validation_log_loss,
    )


def shap_summary(sample: ShapSample) -> ShapSummary:
    """SHAP values as the card shows them: every column, strongest first, of equal ones by name."""
    ranked = sorted(
        zip(sample.columns, sample.mean_absolute.tolist(), sample.shares.tolist(), strict=True),
        key=lambda item: (-item[1], item[0]),
    )
    columns = tuple(ImportantColumn(feature=name, mean_abs_shap=mean, share=share) for name, mean, share in ranked)
    return ShapSummary(rows=len(sample.values), columns=columns)


def reproduction(recipe: Recipe, rebuilt: RebuildReport | None) -> Reproduction:
    """The recipe and its rebuild as the card shows them."""
    return Reproduction(
        threads=recipe.threads,
        uncommitted_changes=recipe.environment.uncommitted_changes,
        constraints_sha256=recipe.environment.constraints_sha256,
        trials_digest=recipe.trials_digest,
        rebuild=rebuilt,
    )
