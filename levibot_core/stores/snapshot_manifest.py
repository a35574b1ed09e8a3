"""What a training snapshot says about itself, and the checksum that holds it to that.

Reading and writing snapshots is `levibot_core.stores.snapshots`' work.
"""

import hashlib
import json

import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict

from levibot_core.labels.definition import LabelDefinition, TripleBarrierLabel, label_definition
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.stores.digest import frame_digest


class SnapshotManifest(BaseModel):
    """What snapshot.json says.

    `checksum` is the SHA-256 over the content of rows and candles, the hash of the feature definitions, the label's
    definition, market, timeframe, source and as-of time; `dropped` counts the rows of the window that are not in the
    snapshot, by reason. `window_start` and `inputs` (the symbols whose candles were given) are what a rebuild needs
    beside that; snapshots of earlier versions of the platform do not have them. `triple_barrier` is None where labels
    are the direction over the horizon; otherwise `horizon_bars` is the most that a label looks ahead.
    """

    model_config = ConfigDict(frozen=True)

    snapshot_id: str
    created_at: AwareDatetime
    as_of: AwareDatetime
    checksum: str
    rows: int
    dropped: dict[str, int]
    symbols: tuple[str, ...]
    market: str
    timeframe: str
    horizon_bars: int
    feature_set: str
    features: tuple[str, ...]
    features_sha256: str
    source: SourceIdentity
    first_ts: AwareDatetime
    last_ts: AwareDatetime
    warm_up: int
    window_start: AwareDatetime | None = None
    inputs: tuple[str, ...] = ()
    triple_barrier: TripleBarrierLabel | None = None

    @property
    def label(self) -> LabelDefinition:
        """What the labels of its rows are."""
        return label_definition(self.horizon_bars, self.triple_barrier)


def content_checksum(manifest: SnapshotManifest, rows: pl.DataFrame, candles: pl.DataFrame) -> str:
    """The checksum a snapshot with these definitions, rows and candles has: SHA-256, lower-case hexadecimal.

    It covers content and definitions; neither file layout nor time of creation count.
    """
    content = {
        "rows": frame_digest(rows),
        "candles": frame_digest(candles),
        "features_sha256": manifest.features_sha256,
        "label": manifest.label.model_dump(),
        "as_of_ms": int(manifest.as_of.timestamp() * 1000),
        "market": manifest.market,
        "timeframe": manifest.timeframe,
        "source": [manifest.source.kind, manifest.source.key],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
