"""The features an answer is computed from: opening the online store, and reading one whole vector of it.

Old features are not refused here: the predictor still gives a number, flagged, on which nobody may trade.
"""

from levibot_core.models.bundle import BundleManifest
from levibot_core.stores.online import FeatureVector, OnlineStore, open_online_store, require_vector
from levibot_serving.config import ServingSettings
from levibot_serving.predictor import expect_known


def open_features(settings: ServingSettings) -> OnlineStore:
    """The online store of the home; nothing is read or contacted yet.

    Raises:
        ConfigurationError: `REDIS_URL` cannot be used.
    """
    return open_online_store(settings.folders, settings.redis_address, settings.online_lifetime_s)


def newest_features(store: OnlineStore, manifest: BundleManifest, symbol: str, now_ms: int) -> FeatureVector:
    """The newest vector of a symbol (inside spelling), with every feature that the model needs.

    Raises:
        UnknownSymbolError: the model was not trained on the symbol.
        MissingFeatureError: there is no vector, it has expired, follows another feature set, or lacks features.
        OnlineStoreError, LakeCorruptionError, HomeNotWritableError: the store cannot be read.
    """
    expect_known(manifest, symbol)
    return require_vector(store, symbol, manifest.features, now_ms=now_ms, feature_set=manifest.feature_set)
