"""The features an answer is computed from: opening the online store, and reading one whole vector or window of it.

How the API reads without waiting, and what it does when the store fails, is in `levibot_serving.feature_reader`. Old
features are not refused here: the predictor still gives a number, flagged, on which nobody may trade.
"""

from dataclasses import dataclass

import numpy as np

from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import BundleManifest
from levibot_core.stores.online import (
    FeatureVector,
    OnlineStore,
    open_online_store,
    require_history,
    require_vector,
)
from levibot_serving.config import ServingSettings
from levibot_serving.predictor import expect_known


def open_features(settings: ServingSettings) -> OnlineStore:
    """The online store of the home; nothing is read or contacted yet.

    Raises:
        ConfigurationError: `REDIS_URL` cannot be used.
    """
    return open_online_store(settings.folders, settings.redis_address, settings.online_lifetime_s)


@dataclass(frozen=True, slots=True)
class NewestFeatures:
    """What a forecast is made from.

    Attributes:
        vector: The newest vector of the symbol.
        bars: The model's features of the last bars, float64 (window, f), oldest first; None for a model of one bar.
        degraded: Why these are not what the store holds now; None when they are.
    """

    vector: FeatureVector
    bars: np.ndarray | None = None
    degraded: str | None = None


def newest_features(store: OnlineStore, manifest: BundleManifest, symbol: str, now_ms: int) -> NewestFeatures:
    """The newest vector of a symbol (inside spelling), with every feature that the model needs, and its window.

    Raises:
        UnknownSymbolError: the model was not trained on the symbol.
        MissingFeatureError: there is no vector, it has expired, follows another feature set, or lacks features; or one
            of the bars of the window is missing, which the message names.
        OnlineStoreError, LakeCorruptionError, HomeNotWritableError: the store cannot be read.
    """
    expect_known(manifest, symbol)
    names, feature_set = manifest.features, manifest.feature_set
    if manifest.window == 1:
        return NewestFeatures(require_vector(store, symbol, names, now_ms=now_ms, feature_set=feature_set))
    bar_ms = Timeframe.parse(manifest.timeframe).milliseconds
    history = require_history(
        store, symbol, names, manifest.window, bar_ms=bar_ms, now_ms=now_ms, feature_set=feature_set
    )
    return NewestFeatures(history.newest, history.matrix(names)[-manifest.window :])
