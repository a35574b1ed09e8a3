"""What a training snapshot holds, computed from what was known at an instant: whole, labelled rows and their candles.

Freezing them under an id is `levibot_core.stores.snapshots`' work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl

from levibot_core.errors import SnapshotError
from levibot_core.features.compute import compute_features
from levibot_core.features.missing import missing_reasons
from levibot_core.features.registry import FeatureSet
from levibot_core.labels.definition import LabelDefinition
from levibot_core.labels.labelling import label_rows
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import FEAR_GREED, TIMESTAMP, TRAINING_ROWS
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import candles_dataset, fear_greed_dataset, funding_dataset

_CANDLE_COLUMNS = ("symbol", "ts", "open", "high", "low", "close", "volume", "known_at")
_COLUMNS_NAMED_IN_ERRORS = 8


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """The tables that training rows are computed from, each with any number of revisions per row.

    Attributes:
        candles: Schema of `CANDLES`, all symbols.
        funding: Schema of `FUNDING_RATES`; may be empty.
        fear_greed: Schema of `FEAR_GREED`; may be empty.
    """

    candles: pl.DataFrame
    funding: pl.DataFrame
    fear_greed: pl.DataFrame = field(default_factory=FEAR_GREED.empty)

    def known_at(self, as_of_ms: int) -> "TrainingInputs":
        """The revisions that were known at that instant, UTC milliseconds."""
        known = pl.col("known_at") <= instant(as_of_ms)
        return TrainingInputs(self.candles.filter(known), self.funding.filter(known), self.fear_greed.filter(known))


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What is frozen.

    Attributes:
        rows: `TRAINING_ROWS` and the feature columns in registry order, sorted by symbol and ts; no NaN, no null.
        candles: Candles of the window in the newest revision known: symbol, ts, open, high, low, close, volume,
            known_at; sorted by symbol and ts.
        dropped: How many rows of the window are not in `rows`, by reason.
    """

    rows: pl.DataFrame
    candles: pl.DataFrame
    dropped: dict[str, int]


def read_inputs(
    lake: Lake, *, source_key: str, market: str, timeframe: str, symbols: Sequence[str], as_of_ms: int | None = None
) -> TrainingInputs:
    """Read every revision of candles, funding, and fear and greed that was known at an instant.

    Args:
        lake: Where they lie.
        source_key: The source's key in lake paths.
        market: `spot` or `perp`.
        timeframe: Such as `5m`.
        symbols: Inside spelling.
        as_of_ms: UTC milliseconds; None gives what is known now.

    Raises:
        LakeCorruptionError: a file cannot be read.
    """
    inputs = TrainingInputs(
        lake.read_all_revisions(candles_dataset(source_key, market, timeframe), symbols),
        lake.read_all_revisions(funding_dataset(source_key), symbols),
        lake.read_all_revisions(fear_greed_dataset(source_key)),
    )
    return inputs if as_of_ms is None else inputs.known_at(as_of_ms)


def training_rows(
    inputs: TrainingInputs,
    *,
    feature_set: FeatureSet,
    timeframe: Timeframe,
    label: LabelDefinition,
    start_ms: int,
    as_of_ms: int,
) -> TrainingRows:
    """Compute the rows with open time from `start_ms` on whose label was known at `as_of_ms`.

    A row's features are what could be computed at its decision time; its label and the candles are in the newest
    revision known at `as_of_ms`. Rows with a NaN and rows without a label are left out and counted.

    Args:
        inputs: What is known; later revisions are ignored. Bars before `start_ms` serve as warm-up.
        feature_set: Features to compute.
        timeframe: Length of a bar.
        label: What the label is.
        start_ms: First open time of the window, UTC milliseconds.
        as_of_ms: Instant of knowledge, UTC milliseconds.

    Raises:
        SnapshotError: no row is whole; the message names the columns responsible.
    """
    known = inputs.known_at(as_of_ms)
    features = compute_features(
        known.candles,
        known.funding,
        feature_set,
        timeframe,
        start_ms=start_ms,
        end_ms=as_of_ms,
        fear_greed=known.fear_greed,
    )
    candles = newest_revisions(known.candles)
    labels = label_rows(candles, timeframe, label).filter(pl.col("label_end") <= instant(as_of_ms))
    reasons = missing_reasons(
        features, known.candles, known.funding, feature_set, timeframe, fear_greed=known.fear_greed
    )
    whole = features.join(reasons, on=["symbol", "ts"], how="anti", maintain_order="left")
    names = [*TRAINING_ROWS.polars_schema, *feature_set.names]
    rows = whole.join(labels, on=["symbol", "ts"], maintain_order="left").select(names).sort("symbol", "ts")
    if rows.is_empty():
        raise _nothing_left(features, feature_set, len(labels))
    dropped = dict(sorted(reasons["reason"].value_counts().iter_rows()))
    if unlabelled := whole.height - rows.height:
        dropped["no_label"] = unlabelled
    window = candles.filter(pl.col("ts") >= instant(start_ms)).select(_CANDLE_COLUMNS).sort("symbol", "ts")
    return TrainingRows(rows, window, dropped)


def newest_revisions(frame: pl.DataFrame) -> pl.DataFrame:
    """The newest revision of every row: of rows with the same symbol and ts, the one known last."""
    key = [name for name in ("symbol", "ts") if name in frame.columns]
    return frame.sort(*key, "known_at").unique(key, keep="last", maintain_order=True)


def epoch_ms(moment: datetime) -> int:
    """UTC milliseconds of an aware moment, rounded down."""
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def instant(milliseconds: int) -> pl.Expr:
    """An instant, UTC milliseconds, to compare with time columns."""
    return pl.lit(milliseconds, dtype=pl.Int64).cast(TIMESTAMP)


def _nothing_left(features: pl.DataFrame, feature_set: FeatureSet, labels: int) -> SnapshotError:
    empty = [name for name in feature_set.names if features[name].is_nan().all()]
    named = [f"{name} (0 of {features.height})" for name in empty[:_COLUMNS_NAMED_IN_ERRORS]]
    if len(empty) > len(named):
        named.append(f"and {len(empty) - len(named)} more")
    columns = f"no value at all in {', '.join(named)}" if empty else "no row with every feature and a label"
    return SnapshotError(
        f"Expected at least one whole training row, was none: {features.height} bars and {labels} labels in the "
        f"window, {columns}. A bar needs {feature_set.warm_up} bars of history; leader_* needs candles of the leading "
        "market, funding_* settled funding, fear_greed* the index. Ingest what is missing, or more days, or set "
        "LEVIBOT_FEATURE_SET=v1."
    )
