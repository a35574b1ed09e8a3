"""Fill the online store again when a server that kept it in memory came back empty."""

import dagster as dg

from levibot_core.errors import LevibotError
from levibot_pipelines.online import warm_up
from levibot_pipelines.workspace import Workspace

ONLINE_FEATURES = dg.AssetKey(["feature_store", "online_features"])


@dg.sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Puts the newest vectors of the lake into an online store that has lost all of them.",
)
def empty_online_store(
    context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.SensorResult | dg.SkipReason:
    """Look whether the store knows any symbol; fill it here and now, since a run might queue behind a training."""
    if context.instance.get_latest_materialization_event(ONLINE_FEATURES) is None:
        return dg.SkipReason("The online features were never materialised.")
    try:
        if workspace.online_store.last_known_at_ms(workspace.settings.symbols):
            return dg.SkipReason("The online store holds vectors.")
        vectors = warm_up(workspace)
    except LevibotError as error:
        return dg.SkipReason(f"The online store cannot be filled now. {error}")
    filled = dg.AssetMaterialization(
        ONLINE_FEATURES,
        description="The online store was empty",
        metadata={"dagster/row_count": len(vectors.complete), "store": workspace.online_store.place},
    )
    return dg.SensorResult(asset_events=[filled])
