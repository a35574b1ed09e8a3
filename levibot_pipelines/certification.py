"""Run a certificate: the platform on markets whose truth is known, each in a home of its own, over the cores.

A market goes the way of every lifecycle: source, lake, quality rules, features, snapshot, trainings, ensemble,
calibration, registry, rebuild, card, gates, champion. Left out is what no promotion gate looks at (warehouse, drift,
backtest pages, pictures of SHAP values, the spread over folds), the transformer, whose training takes minutes, and the
leak attack, which examines features and not forecasts; it counts as passed, so that it refuses nothing.

Which markets, and what the outcomes prove, is `levibot_core.validation.certificate`'s work.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from levibot_core.config import Settings
from levibot_core.errors import ConfigurationError, HomeBusyError
from levibot_core.market.simulator import ANCHOR_MS
from levibot_core.market.sources.recorded import RecordedSource
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.models.retraining import training_of
from levibot_core.stores.files import write_json_atomically, write_text_atomically
from levibot_core.stores.kept_results import KeptResults
from levibot_core.stores.paths import Home
from levibot_core.validation.certificate import (
    Certificate,
    Market,
    MarketOutcome,
    Platform,
    certify_outcomes,
    plan_markets,
)
from levibot_core.validation.certificate_page import certificate_html
from levibot_core.validation.destroyed_market import destroyed, read_recordings
from levibot_pipelines.provenance import code_version
from levibot_pipelines.runs import ensure_database
from levibot_pipelines.workers import available_cores, in_processes

DAYS, SYMBOLS = 80, 2
"""Size of a market: small enough for twenty in a quarter of an hour on two cores."""
LEAD_DAYS = 16
"""Before them, for the windows of the first rows and what was published before."""
OUTCOMES, DATABASE = "markets.jsonl", "mlflow.db"
_HOME = ".market-"
_MARKETS_PER_PROCESS = 8
"""Libraries are loaded once for as many; what they hold on to is given back after."""
_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate and where it was written."""

    certificate: Certificate
    json_file: Path
    html: Path


@dataclass(frozen=True, slots=True)
class Job:
    """A market to run, the settings it is run with, and the certificate's folder, which has a database to copy."""

    market: Market
    settings: Settings
    folder: Path


OnOutcome = Callable[[int, int, MarketOutcome | None], None]
"""Told how many markets are finished, of how many, and the one just finished; None at the beginning."""


def certify(
    settings: Settings,
    markets: int,
    seed: int,
    folder: Path,
    on_outcome: OnOutcome,
    plan: Sequence[Market] | None = None,
    run: Callable[[Sequence[Job]], Iterable[MarketOutcome]] | None = None,
    planted: int | None = None,
) -> CertificateFiles:
    """Run every market that is not finished yet, one process per core, and write the certificate.

    Finished markets are kept in the folder, one line each, and count as long as the code is the same: a run that was
    killed goes on where it was.

    Args:
        settings: Timeframe, horizon, feature set, families and profile are tried as they are; the home is not touched.
        markets: How many without an edge.
        seed: Of the first market.
        folder: Where everything goes.
        on_outcome: Told of the progress, in this process.
        plan: The markets, where they are not to be those of `plan_markets`.
        run: Runs jobs and gives their outcomes as they finish; `run_jobs` if None.
        planted: How many with each planted edge, as `plan_markets` takes it.

    Raises:
        HomeBusyError: another process certifies in this folder.
        LevibotError: the platform failed on a market, which is no verdict; what was finished before stays.
    """
    recorded = settings.market_data
    chosen = plan or plan_markets(
        markets, seed, DAYS, settings.symbols[:SYMBOLS], recorded=recorded is not None, planted=planted
    )
    folder = folder.expanduser().absolute()
    tried = _tried(settings)
    with _alone(folder):
        kept = KeptResults[Market, MarketOutcome](
            folder / OUTCOMES, f"{_sources_digest()} {_shape(tried)}", MarketOutcome, lambda outcome: outcome.market
        )
        missing = [market for market in chosen if market not in kept]
        on_outcome(len(chosen) - len(missing), len(chosen), None)
        ensure_database(folder / DATABASE)
        jobs = [Job(market, tried, folder) for market in missing]
        for outcome in (run or run_jobs)(jobs) if jobs else ():
            kept.add(outcome)
            on_outcome(sum(market in kept for market in chosen), len(chosen), outcome)
        certificate = certify_outcomes(
            [kept[market] for market in chosen], _platform(tried, chosen, seed), datetime.now(UTC)
        )
        files = CertificateFiles(certificate, folder / "certificate.json", folder / "certificate.html")
        write_text_atomically(files.html, certificate_html(certificate))
        write_json_atomically(files.json_file, certificate.model_dump(mode="json"))
    return files


def run_jobs(jobs: Sequence[Job]) -> Iterator[MarketOutcome]:
    """Run jobs in a process per core, each of one thread; outcomes come as they finish."""
    # Read when the libraries are loaded, which the processes do anew.
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield from in_processes(run_job, jobs, processes=available_cores(), calls_each=_MARKETS_PER_PROCESS)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def run_job(job: Job) -> MarketOutcome:
    """One market from its candles to the verdict, in a home that is gone afterwards."""
    from levibot_pipelines.certified_market import run_market  # Seconds of libraries, in the process that needs them.

    started = time.process_time()
    with TemporaryDirectory(dir=job.folder, prefix=_HOME, ignore_cleanup_errors=True) as root:
        settings = market_settings(job.settings, job.market, Path(root))
        shutil.copyfile(job.folder / DATABASE, Home.at(settings.home).create().mlflow_database)
        outcome = run_market(settings, job.market)
    return outcome.model_copy(update={"seconds": time.process_time() - started})


def market_settings(settings: Settings, market: Market, root: Path) -> Settings:
    """Settings of a home below `root` that sees the market and nothing else; its candles are written where needed.

    Raises:
        ConfigurationError: the market is to be drawn from recorded candles, and there is no folder of them.
        LevibotError: they cannot be read, or are too few.
    """
    timeframe, days, folder = Timeframe.parse(settings.timeframe), LEAD_DAYS + market.days, None
    until_ms = ANCHOR_MS + days * MILLISECONDS_PER_DAY
    if market.kind != "simulated":
        if settings.market_data is None:
            raise ConfigurationError(
                f"Expected LEVIBOT_MARKET_DATA for a market of kind {market.kind!r}, was not set. Set it to a folder "
                "of candle Parquet files."
            )
        recordings = read_recordings(RecordedSource(settings.market_data), market.symbols, settings.market, timeframe)
        folder = root / "recordings"
        drawn = destroyed(recordings, market.kind, timeframe, ANCHOR_MS, days, market.seed)
        drawn.write(folder, settings.market, timeframe)
    return settings.model_copy(
        update={
            "home": root / "home",
            "source": "recorded" if folder else "simulated",
            "market_data": folder,
            "symbols": market.symbols,
            "days": market.days,
            "until": datetime.fromtimestamp(until_ms / 1000, UTC),
            "seed": market.seed,
            "simulated_edge": market.edge,
        }
    )


def _tried(settings: Settings) -> Settings:
    """The settings a certificate is about, with nothing that would reach outside a market's home."""
    families = tuple(family for family in settings.families if training_of(family).cheap)
    if not families:
        raise ConfigurationError(
            "Expected a family whose training takes seconds among LEVIBOT_FAMILIES, was "
            f"{', '.join(settings.families)}. Add lightgbm or xgboost."
        )
    return settings.model_copy(update={"families": families, "threads": 1, "redis_url": None, "study_url": None})


def _platform(settings: Settings, markets: Sequence[Market], seed: int) -> Platform:
    return Platform(
        code_version=code_version(),
        seed=seed,
        timeframe=settings.timeframe,
        horizon_bars=settings.label_bars,
        days=markets[0].days,
        symbols=markets[0].symbols,
        feature_set=settings.feature_set,
        families=settings.families,
        profile=settings.profile,
        recorded=None if settings.market_data is None else settings.market_data.name,
    )


def _shape(settings: Settings) -> str:
    """What outcomes depend on beside the code and the market."""
    recorded = "nothing" if settings.market_data is None else settings.market_data.expanduser().resolve()
    return (
        f"{settings.model_name} {settings.feature_set} {settings.profile} {settings.sample_weights} "
        f"{','.join(settings.families)} {settings.market} {recorded}"
    )


def _sources_digest() -> str:
    """The part of the code version that says what ran, whatever commit it is in."""
    return code_version().rpartition("+")[2]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder, and remove the homes that a killed run left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise HomeBusyError(
            f"Expected to be alone, but another process certifies in {folder}. Wait for it, or give another --out."
        ) from None
    try:
        for left in folder.glob(f"{_HOME}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()
