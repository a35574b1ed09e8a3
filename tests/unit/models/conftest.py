"""A small market with a planted signal, and a model trained on it once for all tests of this folder."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from levibot_core.config import TrainingProfile
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.models.bundle import BundleIdentity
from levibot_core.models.candidate import (
    CalibratedCandidate,
    Candidate,
    TrialStore,
    calibrate_candidate,
    train_candidate,
)
from levibot_core.models.recipe import Environment, Recipe, library_versions, trials_digest
from levibot_core.schemas import TIMESTAMP
from levibot_core.stores.snapshot_manifest import SnapshotManifest, content_checksum
from levibot_core.stores.snapshots import SnapshotStore
from levibot_core.stores.trial_ledger import TrialLedger
from levibot_core.validation.split import SplitResult, chronological_split

SYMBOLS = ("BTC/USDT", "ETH/USDT")
FEATURES = ("momentum", "volatility", "noise")
BAR = timedelta(minutes=5)


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., pl.DataFrame]:
    """Makes training rows; `edge` is how much `momentum` says about the label."""

    def make(bars: int = 900, edge: float = 0.8, seed: int = 3) -> pl.DataFrame:
        generator = np.random.default_rng(seed)
        start = datetime(2025, 1, 1, tzinfo=UTC)
        ts = pl.Series("ts", [start + bar * BAR for bar in range(bars)]).cast(TIMESTAMP)
        frames = []
        for symbol in SYMBOLS:
            features = generator.normal(size=(bars, len(FEATURES)))
            rise = generator.random(bars) < 1.0 / (1.0 + np.exp(-edge * features[:, 0]))
            columns = {name: features[:, place] for place, name in enumerate(FEATURES)}
            frames.append(
                pl.DataFrame(
                    {
                        "symbol": [symbol] * bars,
                        "ts": ts,
                        "known_at": ts + BAR,
                        **columns,
                        "label": rise.astype(np.int8),
                        "forward_return": np.where(rise, 0.001, -0.001),
                        "label_end": ts + 4 * BAR,
                    }
                )
            )
        return pl.concat(frames)

    return make


@pytest.fixture(scope="session")
def split(make_rows: Callable[..., pl.DataFrame]) -> SplitResult:
    """The planted market, split."""
    return chronological_split(make_rows())


@pytest.fixture(scope="session")
def identity() -> BundleIdentity:
    """What the models of these tests say about themselves."""
    return BundleIdentity(
        model_name="levibot-5m-h3",
        timeframe="5m",
        horizon_bars=3,
        symbols=SYMBOLS,
        feature_set="v1",
        features=FEATURES,
        snapshot_id="20250105T000000Z-0123456789ab",
        source_kind="recorded",
        created_at=datetime(2025, 1, 5, tzinfo=UTC),
        seed=11,
    )


@pytest.fixture(scope="session")
def profile() -> TrainingProfile:
    """A profile that trains in a second."""
    return TrainingProfile(name="tiny", trials=4, max_rounds=30, early_stopping_rounds=8, max_bin=31, drift_rows=100)


def trial_store(folder: Path) -> TrialStore:
    return TrialStore(folder, TrialLedger(folder / "ledger"))


@pytest.fixture
def store(tmp_path: Path) -> TrialStore:
    """Where the trials of one test go."""
    return trial_store(tmp_path / "trials")


@pytest.fixture(scope="session")
def candidate(
    split: SplitResult, identity: BundleIdentity, profile: TrainingProfile, tmp_path_factory: pytest.TempPathFactory
) -> Candidate:
    """A model trained on the planted market."""
    return train_candidate(split, identity, "lightgbm", profile, 1, trial_store(tmp_path_factory.mktemp("trials")))


@pytest.fixture(scope="session")
def calibrated(candidate: Candidate, split: SplitResult) -> CalibratedCandidate:
    """The same model, calibrated and scored."""
    return calibrate_candidate(candidate, split)


@pytest.fixture(scope="session")
def snapshot_store(
    make_rows: Callable[..., pl.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> tuple[SnapshotStore, SnapshotManifest]:
    """The planted market as a snapshot on disk. Copy the folder before changing it."""
    rows = make_rows()
    candles = rows.select("symbol", "ts", close="momentum")
    draft = SnapshotManifest(
        snapshot_id="",
        created_at=datetime(2025, 1, 5, tzinfo=UTC),
        as_of=datetime(2025, 1, 5, tzinfo=UTC),
        checksum="",
        rows=rows.height,
        dropped={},
        symbols=SYMBOLS,
        market="spot",
        timeframe="5m",
        horizon_bars=3,
        feature_set="v1",
        features=FEATURES,
        features_sha256="f" * 64,
        source=SourceIdentity(kind="recorded", key="recorded", venue="recorded:test", description="planted <market>"),
        first_ts=rows["ts"].min(),
        last_ts=rows["ts"].max(),
        warm_up=1,
    )
    checksum = content_checksum(draft, rows, candles)
    manifest = draft.model_copy(update={"snapshot_id": f"20250105T000000Z-{checksum[:12]}", "checksum": checksum})
    folder = tmp_path_factory.mktemp("snapshots") / manifest.snapshot_id
    folder.mkdir()
    rows.write_parquet(folder / "rows.parquet")
    candles.write_parquet(folder / "candles.parquet")
    (folder / "snapshot.json").write_text(manifest.model_dump_json())
    return SnapshotStore(folder.parent), manifest


@pytest.fixture(scope="session")
def environment() -> Environment:
    """What ran the planted training."""
    return Environment(
        code_version="0123+src.4567",
        uncommitted_changes=False,
        constraints_sha256="c" * 64,
        libraries=library_versions(),
    )


@pytest.fixture(scope="session")
def recipe(
    candidate: Candidate, snapshot_store: tuple[SnapshotStore, SnapshotManifest], environment: Environment
) -> Recipe:
    """What the planted model was trained with."""
    tuning = candidate.tuning
    return Recipe(
        identity=candidate.identity,
        family="lightgbm",
        parameters=dict(tuning.best_parameters),
        rounds=tuning.best_rounds,
        profile=candidate.profile,
        threads=1,
        snapshot=snapshot_store[1],
        environment=environment,
        study_name=tuning.study_name,
        validation_log_loss=tuning.best_value,
        resumed=0,
        trials=tuning.trials.height,
        trials_digest=trials_digest(tuning.trials),
    )
