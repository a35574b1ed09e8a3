"""Partitions: one per symbol and calendar month (UTC), and what a run's selection of them means."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from levibot_core.config import load_settings
from levibot_core.market.ingest import Slice
from levibot_core.market.symbols import normalize_symbol, path_symbol

MONTH_FORMAT = "%Y-%m"
SYMBOL_DIMENSION, MONTH_DIMENSION = "symbol", "month"
PARTITION_TAG = "dagster/partition"
RANGE_START_TAG, RANGE_END_TAG = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

symbols_partitions = dg.StaticPartitionsDefinition([path_symbol(symbol) for symbol in load_settings().symbols])
# The month under way is a partition too, so that today's candles have a place.
months_partitions = dg.MonthlyPartitionsDefinition(start_date="2018-01", fmt=MONTH_FORMAT, end_offset=1)
symbol_months = dg.MultiPartitionsDefinition({SYMBOL_DIMENSION: symbols_partitions, MONTH_DIMENSION: months_partitions})
# A run handles any number of partitions at once: a backfill of years is one run, not hundreds.
single_run = dg.BackfillPolicy.single_run()


def slices_of(keys: Iterable[str]) -> list[Slice]:
    """The stretches of history that a selection of partition keys covers: one per symbol, first to last month."""
    months: dict[str, list[str]] = {}
    for key in keys:
        dimensions = symbol_months.get_partition_key_from_str(str(key)).keys_by_dimension
        months.setdefault(normalize_symbol(dimensions[SYMBOL_DIMENSION]), []).append(dimensions[MONTH_DIMENSION])
    return [
        Slice(symbol, month_start_ms(min(selected)), month_end_ms(max(selected))) for symbol, selected in months.items()
    ]


def keys_of_run(tags: Mapping[str, str]) -> Sequence[str]:
    """Partition keys that a run selects by its tags; empty for a run without a selection.

    For checks, which see no partitions of their own: a partitioned check would be recorded for one partition only,
    and stay "planned" for ever on the others of a single-run backfill (Dagster 1.13).
    """
    if PARTITION_TAG in tags:
        return [tags[PARTITION_TAG]]
    if RANGE_START_TAG in tags:
        return symbol_months.get_partition_keys_in_range(
            dg.PartitionKeyRange(tags[RANGE_START_TAG], tags[RANGE_END_TAG])
        )
    return ()


def month_start_ms(month: str) -> int:
    """First instant of a month `YYYY-MM`, UTC milliseconds."""
    return int(datetime.strptime(month, MONTH_FORMAT).replace(tzinfo=UTC).timestamp() * 1000)


def month_end_ms(month: str) -> int:
    """First instant after a month `YYYY-MM`, UTC milliseconds."""
    year, number = divmod(int(month[:4]) * 12 + int(month[5:]), 12)
    return int(datetime(year, number + 1, 1, tzinfo=UTC).timestamp() * 1000)


def month_of(milliseconds: int) -> str:
    """The month `YYYY-MM` (UTC) that holds an instant."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime(MONTH_FORMAT)


def range_tags(symbols: Sequence[str], start_ms: int, end_ms: int) -> dict[str, str]:
    """Run tags that select every given symbol for the months from `start_ms` to just before `end_ms`, as one run.

    Symbols must stand next to each other in the home's list, since Dagster selects a range of it.
    """
    first, last = month_of(start_ms), month_of(end_ms - 1)
    return {
        RANGE_START_TAG: str(dg.MultiPartitionKey({SYMBOL_DIMENSION: path_symbol(symbols[0]), MONTH_DIMENSION: first})),
        RANGE_END_TAG: str(dg.MultiPartitionKey({SYMBOL_DIMENSION: path_symbol(symbols[-1]), MONTH_DIMENSION: last})),
    }
