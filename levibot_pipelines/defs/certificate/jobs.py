"""The job that makes the nightly certificate."""

import dagster as dg

certificate_job = dg.define_asset_job(
    "certificate",
    selection=dg.AssetSelection.groups("certificate"),
    description="The platform on 20 markets without an edge and a few with one: about 15 minutes on two cores.",
)
