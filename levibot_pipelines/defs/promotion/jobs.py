"""The jobs that look at models that were judged before: on new bars, and on the rows they were judged on."""

import dagster as dg

from levibot_pipelines.runner import GUARD, SHADOW

compared = dg.AssetSelection.assets(["promotion", "champion_watch"], ["promotion", "shadow"])
guarded = dg.AssetSelection.assets(["promotion", "regression_guard"])

shadow_job = dg.define_asset_job(
    SHADOW,
    selection=compared,
    description="Champion against the one before it, challenger against champion; roll back or promote on evidence.",
)

guard_job = dg.define_asset_job(
    GUARD,
    selection=guarded,
    description="The champion's backtest computed again by the code of now: fails, and tells, when it dropped.",
)
