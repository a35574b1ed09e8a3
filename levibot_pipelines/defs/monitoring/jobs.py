"""The jobs of feature monitoring."""

import dagster as dg

monitoring_job = dg.define_asset_job(
    "monitoring",
    selection=dg.AssetSelection.groups("monitoring"),
    description="Drift over time, staleness, correlation, importance and parity of the features.",
)

watch_job = dg.define_asset_job(
    "watch",
    selection=dg.AssetSelection.assets(["monitoring", "feature_staleness"], ["monitoring", "parity"]),
    description="What a fault in operation shows up in first: stale features, and served values that differ.",
)
