"""One home, opened with its settings: the plain objects that assets and commands work with.

What happens in a home lives elsewhere; this module only says which stores, datasets and registry belong together.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from levibot_core.config import Settings, TrainingProfile, load_profile
from levibot_core.errors import MarketDataUnavailableError
from levibot_core.features.refresh import FeatureTables
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_core.market.sources import MarketSource, SourceIdentity, open_source
from levibot_core.market.timeframe import Timeframe
from levibot_core.stores.lake import Lake
from levibot_core.stores.online import OnlineStore, open_online_store
from levibot_core.stores.paths import (
    Dataset,
    Home,
    candles_dataset,
    fear_greed_dataset,
    features_dataset,
    funding_dataset,
)
from levibot_core.stores.snapshots import SnapshotStore
from levibot_core.stores.trial_ledger import TrialLedger
from levibot_pipelines.registry import ModelRegistry

if TYPE_CHECKING:
    from levibot_core.models.candidate import TrialStore


@dataclass(frozen=True)
class Workspace:
    """The stores, the source and the registry of one home under one set of settings."""

    settings: Settings
    home: Home

    @classmethod
    def open(cls, settings: Settings) -> "Workspace":
        """Open the home the settings name, making its folders when they are missing.

        Raises:
            HomeNotWritableError: the home cannot be written.
        """
        return cls(settings, Home.at(settings.home).create())

    @property
    def timeframe(self) -> Timeframe:
        """Length of one bar."""
        return Timeframe.parse(self.settings.timeframe)

    @property
    def profile(self) -> TrainingProfile:
        """How much work a training does."""
        return load_profile(self.settings.profile)

    @cached_property
    def source(self) -> MarketSource:
        """The market source; opened once, so that one run never mixes two."""
        return open_source(self.settings)

    @cached_property
    def feature_set(self) -> FeatureSet:
        """The feature definitions in force."""
        return load_registry(self.settings.feature_set)

    @property
    def lake(self) -> Lake:
        """The Parquet lake."""
        return Lake(self.home.lake)

    @property
    def snapshots(self) -> SnapshotStore:
        """Training snapshots."""
        return SnapshotStore(self.home.snapshots)

    @property
    def trial_store(self) -> "TrialStore":
        """Studies, in the database of `LEVIBOT_STUDY_URL` or else in files of the home, and the lifetime ledger."""
        from levibot_core.models.candidate import TrialStore  # Seconds of libraries that most commands do not need.

        return TrialStore(self.settings.study_address or self.home.trials, TrialLedger(self.home.trial_ledger))

    @cached_property
    def online_store(self) -> OnlineStore:
        """The newest feature vector of every symbol: in Redis when `REDIS_URL` is set, else in a file of the home."""
        return open_online_store(self.home, self.settings.redis_address, self.settings.online_lifetime_s)

    @cached_property
    def registry(self) -> ModelRegistry:
        """The model registry."""
        return ModelRegistry(self.home, self.settings.model_name)

    @property
    def ingested_source(self) -> SourceIdentity:
        """The source whose data the lake was last filled from; later stages read that one.

        Raises:
            MarketDataUnavailableError: nothing was ever ingested into this home.
        """
        identity = self.lake.current_source()
        if identity is None:
            raise MarketDataUnavailableError(
                f"Expected candles in {self.home.lake}, but nothing was ingested yet. "
                "Materialise ingestion/candles or run `levibot run`."
            )
        return identity

    def candles(self, identity: SourceIdentity) -> Dataset:
        """Candles of a source, at this home's market and timeframe."""
        return candles_dataset(identity.key, self.settings.market, self.settings.timeframe)

    def funding(self, identity: SourceIdentity) -> Dataset:
        """Funding rates of a source."""
        return funding_dataset(identity.key)

    def feature_tables(self, identity: SourceIdentity) -> FeatureTables:
        """What features of a source are computed from, and where they go."""
        return FeatureTables(
            self.candles(identity), self.funding(identity), self.fear_greed(identity), self.features(identity)
        )

    def fear_greed(self, identity: SourceIdentity) -> Dataset:
        """The fear and greed index of a source."""
        return fear_greed_dataset(identity.key)

    def features(self, identity: SourceIdentity) -> Dataset:
        """Features computed over a source's candles."""
        return features_dataset(
            identity.key,
            self.settings.market,
            self.settings.timeframe,
            self.feature_set.version,
            self.feature_set.table(),
        )
