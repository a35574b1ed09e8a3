"""Jobs over several stages. A job of one stage alone lives in that stage's folder."""

import dagster as dg

from levibot_pipelines.defs.promotion.jobs import compared, guarded
from levibot_pipelines.runner import INGEST, LIFECYCLE, RETRAIN

_features = dg.AssetSelection.assets(["feature_store", "features"])
_online = dg.AssetSelection.assets(["feature_store", "online_features"])
_snapshot = dg.AssetSelection.assets(["feature_store", "training_snapshot"])

# Have jobs of their own: a person who waits for a verdict does not wait for them.
_apart = dg.AssetSelection.groups("monitoring", "certificate") | compared | guarded

lifecycle_job = dg.define_asset_job(
    LIFECYCLE,
    selection=dg.AssetSelection.all() - _apart,
    description="Ingest, build features, train, calibrate, document, backtest, watch drift and judge: everything once.",
)

ingest_job = dg.define_asset_job(
    INGEST,
    selection=dg.AssetSelection.groups("ingestion", "warehouse") | _features | _online,
    description="Bring the lake, the warehouse and the features up to date.",
)

retrain_job = dg.define_asset_job(
    RETRAIN,
    selection=(_snapshot | dg.AssetSelection.groups("training", "calibration", "model_cards", "backtest", "promotion"))
    - _apart,
    description="Train and judge a candidate on the features that are already there.",
)
