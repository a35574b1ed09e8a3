"""Backtests of registered versions in a home: with the funding its lake knows, beside its champion, kept as reports.

What is computed is `levibot_core.backtest`'s business; this module only brings together what belongs together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from levibot_core.backtest.analysis import analyse
from levibot_core.backtest.candidate import ModelBacktest, backtest_model
from levibot_core.backtest.comparison import Compared, compare_models
from levibot_core.backtest.metrics import backtest_metrics, reasons_against_trading
from levibot_core.backtest.report import Report, ReportContext, write_html_report, write_json_report
from levibot_core.backtest.simulation_parameters import LIVE_ACCOUNT, BacktestParameters
from levibot_core.errors import (
    BundleError,
    ConfigurationError,
    MissingFeatureError,
    RegistryError,
    SnapshotError,
)
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.predictors import BASE_RATE
from levibot_core.stores.paths import Home, funding_dataset
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.stores.snapshots import Snapshot
from levibot_core.stores.training_rows import instant, newest_revisions
from levibot_core.validation.split import chronological_split
from levibot_pipelines.backtest_files import reports_folder
from levibot_pipelines.references import BacktestReference
from levibot_pipelines.registration import NO_SNAPSHOT, reasons_of_provenance
from levibot_pipelines.registry import CHAMPION, RegisteredVersion
from levibot_pipelines.workspace import Workspace

Stage = Callable[[str], None]
_NOT_COMPARABLE: Final = (BundleError, MissingFeatureError, SnapshotError, RegistryError)


def quiet(_: str) -> None:
    """Tell nobody what is under way."""


@dataclass(frozen=True, slots=True)
class BacktestSubject:
    """A version with the rows that it is tested on."""

    version: int
    bundle: ModelBundle
    snapshot: Snapshot
    rows: pl.DataFrame

    @property
    def name(self) -> str:
        """The version in words."""
        return f"version {self.version}"


def subject_of(workspace: Workspace, version: int, days: int | None = None) -> BacktestSubject:
    """A registered version with its test rows, or those of the last so many days.

    Raises:
        RegistryError: there is no such version, or it was trained on no snapshot.
        SnapshotError: its snapshot is gone, or not what it was.
        ConfigurationError: the test rows span fewer days.
    """
    workspace.registry.version(version)
    bundle = workspace.registry.load_bundle(version)
    if bundle.manifest.snapshot_id == NO_SNAPSHOT:
        raise RegistryError(
            f"Expected a version that was trained on a snapshot, but version {version} is of family "
            f"{bundle.manifest.family} and has no test rows. `levibot models list` shows the others."
        )
    snapshot = workspace.snapshots.load(bundle.manifest.snapshot_id)
    return BacktestSubject(version, bundle, snapshot, _last_days(chronological_split(snapshot.rows).test, days))


def usual_version(workspace: Workspace) -> int:
    """The champion, or the newest version that was trained where the champion is the base rate or there is none.

    Raises:
        RegistryError: nothing was ever trained in this home.
    """
    trained = [found for found in workspace.registry.versions() if found.family != BASE_RATE]
    if not trained:
        raise RegistryError("Expected a trained version to backtest, was none. `levibot run` trains one.")
    return next((found for found in trained if CHAMPION in found.aliases), trained[0]).version


def known_funding(workspace: Workspace, manifest: SnapshotManifest) -> pl.DataFrame:
    """Settled funding of a snapshot's symbols as it was known at its instant: symbol, ts, rate."""
    return _funding(workspace, manifest.source.key, manifest.symbols, int(manifest.as_of.timestamp() * 1000))


def funding_known_at(workspace: Workspace, symbols: Sequence[str], as_of_ms: int) -> pl.DataFrame:
    """Settled funding of the ingested source as it was known at an instant, UTC milliseconds: symbol, ts, rate."""
    return _funding(workspace, workspace.ingested_source.key, symbols, as_of_ms)


def _funding(workspace: Workspace, source_key: str, symbols: Sequence[str], as_of_ms: int) -> pl.DataFrame:
    funding = workspace.lake.read_all_revisions(funding_dataset(source_key), symbols)
    return newest_revisions(funding.filter(pl.col("known_at") <= instant(as_of_ms))).select("symbol", "ts", "rate")


def account_of(
    workspace: Workspace,
    bundle: ModelBundle,
    snapshot: Snapshot,
    rows: pl.DataFrame,
    parameters: BacktestParameters = LIVE_ACCOUNT,
) -> ModelBacktest:
    """The account of a model on some rows of a snapshot, with the funding of the lake. Raises as `backtest_model`."""
    return backtest_model(bundle, snapshot, rows, known_funding(workspace, snapshot.manifest), parameters)


def report_on(workspace: Workspace, subject: BacktestSubject, on_stage: Stage = quiet) -> Report:
    """Everything there is to say of a version's backtest; the champion is compared with where that can be done.

    Raises:
        MissingFeatureError, DataQualityError: as `backtest_model`.
    """
    on_stage("Forecasting and trading the test rows")
    backtest = account_of(workspace, subject.bundle, subject.snapshot, subject.rows)
    summary = backtest_metrics(backtest.result)
    champion, note = _against_champion(workspace, subject, on_stage)
    _, trials = workspace.trial_store.ledger.returns_matrix(subject.bundle.manifest.model_name)
    analysis = analyse(
        backtest,
        subject.snapshot.candles,
        trials.T if trials.size else None,
        champion.comparison if champion else None,
        note,
        on_stage,
    )
    manifest = subject.bundle.manifest
    unpaid = () if backtest.funding.counted else (f"the backtest paid no funding: {backtest.funding.note}",)
    context = ReportContext(
        title=f"Backtest of {manifest.model_name} version {subject.version}",
        model_name=manifest.model_name,
        model_version=subject.version,
        snapshot_id=subject.snapshot.manifest.snapshot_id,
        source=subject.snapshot.manifest.source.description,
        reasons=(*reasons_of_provenance(manifest), *reasons_against_trading(summary), *unpaid),
    )
    same_bars = champion is not None and champion.other.result.strategy.equity["ts"].equals(
        backtest.result.strategy.equity["ts"]
    )
    drawn = champion.other.result.strategy if champion is not None and same_bars else None
    return Report(context, backtest.result, summary, backtest.funding, analysis, drawn)


def keep_report(home: Home, report: Report, days: int | None = None) -> BacktestReference:
    """Leave a report where people look: one file of each kind per version and window.

    Raises:
        HomeNotWritableError: it cannot be written.
    """
    name = f"v{report.context.model_version}" + (f"-{days}d" if days else "")
    reference = BacktestReference(
        version=report.context.model_version,
        html=reports_folder(home) / f"{name}.html",
        json_file=reports_folder(home) / f"{name}.json",
        reasons_against_trading=report.context.reasons,
    )
    write_html_report(reference.html, report)
    write_json_report(reference.json_file, report)
    return reference


def compare_versions(workspace: Workspace, version: int, other: int, days: int | None = None) -> Compared:
    """Two registered versions on the rows that neither was fitted on, of the newer one's snapshot.

    Raises:
        RegistryError, SnapshotError, ConfigurationError: as `subject_of`.
        BundleError, MissingFeatureError, DataQualityError: as `compare_models`.
    """
    one, two = subject_of(workspace, version), subject_of(workspace, other)
    newer = max((one, two), key=lambda subject: subject.snapshot.manifest.as_of)
    rows = _last_days(untouched_by_both(one, two, newer.rows), days)
    funding = known_funding(workspace, newer.snapshot.manifest)
    return compare_models(one.bundle, two.bundle, newer.snapshot, rows, (one.name, two.name), funding)


def untouched_by_both(one: BacktestSubject, two: BacktestSubject, rows: pl.DataFrame) -> pl.DataFrame:
    """Those of the rows that are no earlier than the test rows of either."""
    begins = max(subject.rows["ts"].min() for subject in (one, two))  # type: ignore[type-var]
    return rows.filter(pl.col("ts") >= begins)


def _against_champion(workspace: Workspace, subject: BacktestSubject, on_stage: Stage) -> tuple[Compared | None, str]:
    """The comparison with the champion, or why there is none."""
    champion: RegisteredVersion | None = workspace.registry.by_alias(CHAMPION)
    if champion is None:
        return None, "There is no champion yet."
    if champion.version == subject.version:
        return None, "This version is the champion."
    if champion.family == BASE_RATE:
        return None, f"The champion, version {champion.version}, is the base rate: it says the same of every bar."
    on_stage("Trading the champion's forecasts")
    try:
        other = subject_of(workspace, champion.version)
        rows = untouched_by_both(subject, other, subject.rows)
        names = subject.name, f"the champion, version {champion.version}"
        funding = known_funding(workspace, subject.snapshot.manifest)
        return compare_models(subject.bundle, other.bundle, subject.snapshot, rows, names, funding), ""
    except _NOT_COMPARABLE as error:
        return None, f"Version {champion.version}, the champion, cannot be compared with: {error}"


def _last_days(rows: pl.DataFrame, days: int | None) -> pl.DataFrame:
    if days is None or rows.is_empty():
        return rows
    times = rows["ts"].dt.epoch("ms").to_numpy()
    end = int(times.max())
    there = (end - int(times.min())) / MILLISECONDS_PER_DAY
    if days > there:
        raise ConfigurationError(
            f"Expected at most the {there:.1f} days of the test rows, was {days}. Ask for fewer, or leave --days out."
        )
    return rows.filter(pl.Series(times > end - days * MILLISECONDS_PER_DAY))
