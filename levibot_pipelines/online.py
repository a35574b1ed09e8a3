"""The online store of a workspace, filled from its lake. Which rows are put is `levibot_core`'s decision."""

from levibot_core.features.online_warm_up import warm_up_online_store
from levibot_core.features.refresh import LatestVectors
from levibot_pipelines.workspace import Workspace


def warm_up(workspace: Workspace) -> LatestVectors:
    """Put the newest whole vector of every symbol of this home into its online store.

    Raises:
        MarketDataUnavailableError: nothing was ingested yet, or a symbol has no features.
        OnlineStoreError, HomeNotWritableError: the store cannot be written.
    """
    identity = workspace.ingested_source
    return warm_up_online_store(
        workspace.online_store,
        workspace.lake,
        candles_dataset=workspace.candles(identity),
        features_dataset=workspace.features(identity),
        symbols=workspace.settings.symbols,
        source_kind=identity.kind,
    )
