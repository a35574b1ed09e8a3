import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.market.ingest import Slice
from levibot_pipelines.defs.shared.partitions import (
    RANGE_END_TAG,
    RANGE_START_TAG,
    keys_of_run,
    month_end_ms,
    month_of,
    month_start_ms,
    range_tags,
    slices_of,
    symbol_months,
)

_JANUARY_2025_MS = 1_735_689_600_000
_DAY_MS = 86_400_000


def test_a_selection_becomes_one_slice_per_symbol() -> None:
    keys = ["2025-01|BTC-USDT", "2025-02|BTC-USDT", "2025-01|ETH-USDT"]

    assert slices_of(keys) == [
        Slice("BTC/USDT", _JANUARY_2025_MS, _JANUARY_2025_MS + 59 * _DAY_MS),
        Slice("ETH/USDT", _JANUARY_2025_MS, _JANUARY_2025_MS + 31 * _DAY_MS),
    ]


@given(st.integers(1_514_764_800_000, 1_900_000_000_000))
@settings(deadline=None)
def test_every_instant_lies_in_its_month(instant: int) -> None:
    month = month_of(instant)

    assert month_start_ms(month) <= instant < month_end_ms(month)
    assert month_of(month_end_ms(month)) != month


@pytest.mark.parametrize(("days", "first"), [(17, "2025-01"), (40, "2024-12")])
def test_range_tags_select_every_symbol_and_month_between(days: int, first: str) -> None:
    end_ms = _JANUARY_2025_MS + 20 * _DAY_MS

    tags = range_tags(["BTC/USDT", "ETH/USDT", "SOL/USDT"], end_ms - days * _DAY_MS, end_ms)

    keys = symbol_months.get_partition_keys_in_range(dg.PartitionKeyRange(tags[RANGE_START_TAG], tags[RANGE_END_TAG]))
    months = sorted({str(key).split("|")[0] for key in keys})
    assert months[0] == first
    assert months[-1] == "2025-01"
    assert {part.symbol for part in slices_of(keys)} == {"BTC/USDT", "ETH/USDT", "SOL/USDT"}
    assert len(keys) == 3 * len(months)


def test_a_run_selects_by_one_partition_by_a_range_or_not_at_all() -> None:
    tags = range_tags(["BTC/USDT", "ETH/USDT"], _JANUARY_2025_MS, _JANUARY_2025_MS + _DAY_MS)

    assert keys_of_run({"dagster/partition": "2025-01|BTC-USDT"}) == ["2025-01|BTC-USDT"]
    assert sorted(keys_of_run(tags)) == ["2025-01|BTC-USDT", "2025-01|ETH-USDT"]
    assert keys_of_run({}) == ()


def test_an_end_at_midnight_does_not_select_the_month_that_begins_there() -> None:
    tags = range_tags(["BTC/USDT"], _JANUARY_2025_MS - _DAY_MS, _JANUARY_2025_MS)

    assert tags[RANGE_END_TAG].startswith("2024-12")
