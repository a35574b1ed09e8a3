"""Fill the online store from the lake: after every bar, and after a server that kept it in memory came back empty.

The lake is the truth, the online store a copy of its newest rows. The serving layer cannot read the lake (it has no
data-frame library), so whoever runs the pipelines fills the store.
"""

from collections.abc import Sequence

from levibot_core.config import SourceKind
from levibot_core.features.refresh import LatestVectors, latest_vectors
from levibot_core.stores.lake import Lake
from levibot_core.stores.online import OnlineStore
from levibot_core.stores.paths import Dataset


def warm_up_online_store(
    store: OnlineStore,
    lake: Lake,
    *,
    candles_dataset: Dataset,
    features_dataset: Dataset,
    symbols: Sequence[str],
    source_kind: SourceKind,
) -> LatestVectors:
    """Put the newest whole vector of every symbol and those of the bars before; a newer one already there stays.

    The price of each vector comes from the candles, its age from the lake: a vector of yesterday is put as one of
    yesterday. All bars of a history are put every time, so that a bar which was missed is there at the next.

    Returns:
        What was put, and which symbols were left out because their newest row lacks features.

    Raises:
        MarketDataUnavailableError: a symbol has no features in the lake.
        OnlineStoreError, HomeNotWritableError: the store cannot be written.
    """
    vectors = latest_vectors(
        lake,
        candles_dataset=candles_dataset,
        features_dataset=features_dataset,
        symbols=symbols,
        source_kind=source_kind,
    )
    store.put([*vectors.earlier, *vectors.complete])
    return vectors
