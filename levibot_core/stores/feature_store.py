"""The offline feature store: features of the lake as they were known at given instants.

The rule of which row counts is `levibot_core.features.point_in_time`'s; the newest vector of every symbol, for
serving, is in `levibot_core.stores.online`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from levibot_core.errors import MissingFeatureError, SchemaError
from levibot_core.features.point_in_time import FEATURE_KNOWN_AT, FEATURE_TS, join_as_known
from levibot_core.market.symbols import normalize_symbol
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.schemas import TIMESTAMP
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import Dataset

# Columns of a feature table that are not features.
_NOT_FEATURES = frozenset({"symbol", "ts", "known_at", "revision", "venue"})
# A row's newest known features are rarely older than this; those that are, are looked up in the whole history.
_RECENT_MS = 3 * MILLISECONDS_PER_DAY
_EPOCH = datetime.fromtimestamp(0, UTC)


class FeatureStore:
    """Reads one feature dataset of a lake, correct in time by default.

    Every answer holds, for a symbol and an instant, what was known of that symbol at that instant: of all feature
    rows with `known_at` at or before it, the one with the newest event time `ts`. There is no mode without the filter
    on knowledge time.

    Example:
        >>> store = FeatureStore(lake, features_dataset("recorded", "spot", "5m", "v1", feature_set.table()))
        >>> rows = store.get_training_set(spine, ["log_return_1", "rsi_14"])  # spine: symbol, time, label, ...
        >>> now = store.get_features_at(["BTCUSDT", "ETHUSDT"], datetime.now(UTC))
    """

    def __init__(self, lake: Lake, dataset: Dataset) -> None:
        self.lake = lake
        self.dataset = dataset

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of all features of the dataset, in registry order."""
        return tuple(name for name in self.dataset.table.polars_schema if name not in _NOT_FEATURES)

    def get_training_set(
        self,
        spine: pl.DataFrame,
        features: Sequence[str] | None = None,
        as_of_ms: int | None = None,
        max_age_ms: int | None = None,
    ) -> pl.DataFrame:
        """Join features to a spine of entities and instants (Feast's `get_historical_features`).

        Args:
            spine: symbol (String, any spelling), time (Datetime, UTC, any unit) and any further columns, such as
                labels; in any order, rows may repeat. The instants are decision times: a row at the close of a bar
                sees that bar.
            features: Names of the features to give; None gives all.
            as_of_ms: Instant of knowledge, UTC milliseconds: nothing that became known later is used, also for spine
                rows after it. None sets no limit but each row's own time.
            max_age_ms: The features' time to live: where `time - feature_ts` is more, the row gets nulls. None gives
                values however old.

        Returns:
            The columns and the row order of `spine` as they were given; `feature_ts` and `feature_known_at`, the
            event time and the knowledge time of the row taken; and the features. Null stands where nothing was known,
            NaN where the feature could not be computed; `missing` lists both.

        Raises:
            SchemaError: the spine lacks a column, has one of another type or a null, or a name that the result needs.
            MissingFeatureError: a feature is not in the dataset.
            UnknownSymbolError: a symbol is malformed. One that the dataset has no rows of gets nulls.
            LakeCorruptionError: a file of the lake cannot be read.
        """
        names = self._known_names(features)
        if taken := sorted({FEATURE_TS, FEATURE_KNOWN_AT, *names} & set(spine.columns)):
            raise SchemaError(
                f"Expected a spine without the columns that the result adds, was with {taken}. Rename them."
            )
        return spine.hstack(self._join(_questions(spine), names, as_of_ms, max_age_ms).drop("symbol", "time"))

    def get_features_at(
        self,
        entities: Sequence[str] | str,
        times: Sequence[datetime] | datetime,
        features: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """The features of every entity as they were known at every one of the times.

        Args:
            entities: A symbol or several, any spelling.
            times: An instant or several, aware datetimes; whatever their time zone, the answer is in UTC.
            features: Names of the features to give; None gives all.

        Returns:
            One row per entity and time, in the order given, the times of an entity together: symbol (inside
            spelling), time, feature_ts, feature_known_at and the features, as `get_training_set` gives them.

        Raises:
            SchemaError: a time has no time zone.
            MissingFeatureError: a feature is not in the dataset.
            UnknownSymbolError: a symbol is malformed.
            LakeCorruptionError: a file of the lake cannot be read.
        """
        symbols = [normalize_symbol(entity) for entity in ([entities] if isinstance(entities, str) else entities)]
        instants = [times] if isinstance(times, datetime) else list(times)
        for instant in instants:
            if instant.utcoffset() is None:
                raise SchemaError(f"Expected times with a time zone, was {instant!r}. Say datetime(..., tzinfo=UTC).")
        # Rounded down to whole milliseconds: what is known at the earlier one is known at the later one.
        milliseconds = [(instant - _EPOCH) // timedelta(milliseconds=1) for instant in instants]
        spine = pl.DataFrame(
            {
                "symbol": pl.Series([symbol for symbol in symbols for _ in milliseconds], dtype=pl.String),
                "time": pl.Series(milliseconds * len(symbols), dtype=pl.Int64).cast(TIMESTAMP),
            }
        )
        return self._join(spine, self._known_names(features), None, None)

    def missing(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Say for every incomplete row which features it lacks, null and NaN alike; nothing is filled in.

        Args:
            rows: What `get_training_set` or `get_features_at` gave.

        Returns:
            Columns symbol, time and missing (List of String, in column order), one row per incomplete row, in order.
        """
        names = [name for name in self.feature_names if name in rows.columns]
        lacking = [
            pl.when(pl.col(name).is_null() | (pl.col(name).is_nan() if rows[name].dtype.is_float() else False)).then(
                pl.lit(name)
            )
            for name in names
        ]
        missing = pl.concat_list(lacking).list.drop_nulls() if lacking else pl.lit([], dtype=pl.List(pl.String))
        return rows.select("symbol", "time", missing=missing).filter(pl.col("missing").list.len() > 0)

    def _known_names(self, features: Sequence[str] | None) -> tuple[str, ...]:
        known = self.feature_names
        wanted = known if features is None else tuple(features)
        if unknown := [name for name in wanted if name not in known]:
            raise MissingFeatureError(
                f"Expected features of {self.dataset.folder}, was {', '.join(map(repr, unknown))}. "
                "`levibot features list` names those there are."
            )
        return wanted

    def _join(
        self, spine: pl.DataFrame, names: Sequence[str], as_of_ms: int | None, max_age_ms: int | None
    ) -> pl.DataFrame:
        """Join what is recent, then look up in the whole history what is not there."""
        if spine.is_empty():
            return join_as_known(spine, self.dataset.table.empty(), names)
        times = spine["time"].to_physical()
        last_ms = int(times.max())  # type: ignore[arg-type]
        first_ms = int(times.min())  # type: ignore[arg-type]
        if as_of_ms is not None:
            first_ms, last_ms = min(first_ms, as_of_ms), min(last_ms, as_of_ms)
        # Where an age is set, no answer is older than that at the first instant.
        recent_ms = first_ms - (_RECENT_MS if max_age_ms is None else max_age_ms)
        recent = self._rows(spine["symbol"].unique().to_list(), names, recent_ms, last_ms)
        joined = join_as_known(spine, recent, names, as_of_ms=as_of_ms, max_age_ms=max_age_ms)
        unanswered = joined.filter(pl.col(FEATURE_TS).is_null())["symbol"].unique().to_list()
        if max_age_ms is not None or not unanswered:
            return joined
        older = self._rows(unanswered, names, None, recent_ms - 1)
        return join_as_known(spine, pl.concat([older, recent]), names, as_of_ms=as_of_ms) if older.height else joined

    def _rows(self, symbols: Sequence[str], names: Sequence[str], first_ms: int | None, last_ms: int) -> pl.DataFrame:
        """Rows with ts from `first_ms` to `last_ms`, all revisions; a row is never known before its own ts."""
        return self.lake.read_all_revisions(self.dataset, symbols, first_ms, last_ms + 1, ["known_at", *names])


def _questions(spine: pl.DataFrame) -> pl.DataFrame:
    """Symbol and time of a spine, as the join wants them."""
    time = spine.schema.get("time")
    utc = isinstance(time, pl.Datetime) and time.time_zone == "UTC"
    if not utc or spine.schema.get("symbol") != pl.String:
        raise SchemaError(
            f"Expected a spine with columns symbol (String) and time (Datetime, UTC), was {dict(spine.schema)}. "
            "Rename or cast; a time without a zone becomes UTC by dt.replace_time_zone('UTC')."
        )
    if nulls := spine["symbol"].null_count() + spine["time"].null_count():
        raise SchemaError(f"Expected a symbol and a time in every spine row, was {nulls} nulls. Drop those rows.")
    given = spine["symbol"].unique().to_list()
    inside = {symbol: normalize_symbol(symbol) for symbol in given}
    symbol = pl.col("symbol")
    if any(symbol != spelling for symbol, spelling in inside.items()):
        symbol = symbol.replace_strict(inside, return_dtype=pl.String)
    # Whole milliseconds, rounded down: what is known at the earlier instant is known at the later one.
    return spine.select(symbol, pl.col("time").dt.cast_time_unit("ms"))
