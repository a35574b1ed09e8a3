"""The job that compares models on new bars."""

import dagster as dg

from levibot_pipelines.runner import SHADOW

compared = dg.AssetSelection.assets(["promotion", "champion_watch"], ["promotion", "shadow"])

shadow_job = dg.define_asset_job(
    SHADOW,
    selection=compared,
    description="Champion against the one before it, challenger against champion; roll back or promote on evidence.",
)
