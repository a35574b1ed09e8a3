from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from levibot_core.errors import LakeCorruptionError, SchemaError
from levibot_core.stores.comparison_log import PAIRED_BLOCKS, ComparisonLog

_BEGIN = datetime(2026, 1, 2, tzinfo=UTC)


def _blocks(first: int, last: int, loss: float = 0.69) -> pl.DataFrame:
    decided = [_BEGIN + timedelta(hours=hour) for hour in range(first, last)]
    return pl.DataFrame(
        {
            "decided_at": decided,
            "settled_at": [time + timedelta(hours=1) for time in decided],
            "symbols": [3] * len(decided),
            "contender_log_loss": [loss] * len(decided),
            "reference_log_loss": [0.69] * len(decided),
            "contender_pnl": [0.0] * len(decided),
            "reference_pnl": [0.0] * len(decided),
        },
        schema=PAIRED_BLOCKS.polars_schema,
    )


@pytest.fixture
def log(tmp_path: Path) -> ComparisonLog:
    return ComparisonLog(tmp_path / "comparisons")


def test_a_block_counts_once_and_is_never_scored_differently_afterwards(log: ComparisonLog) -> None:
    assert log.append("v3-against-v2", _blocks(0, 3)) == 3
    assert log.append("v3-against-v2", _blocks(0, 3)) == 0
    assert log.append("v3-against-v2", _blocks(1, 5, loss=0.1)) == 2

    kept = log.read("v3-against-v2")
    assert kept["contender_log_loss"].to_list() == [0.69, 0.69, 0.69, 0.1, 0.1]
    assert len(list((log.folder / "v3-against-v2").glob("*.parquet"))) == 2


def test_what_is_written_is_never_written_again(log: ComparisonLog) -> None:
    log.append("v3-against-v2", _blocks(0, 3))
    (first,) = (log.folder / "v3-against-v2").glob("*.parquet")
    before = (first.read_bytes(), first.stat().st_mtime_ns)
    log.append("v3-against-v2", _blocks(0, 9))

    assert (first.read_bytes(), first.stat().st_mtime_ns) == before


def test_comparisons_do_not_touch_each_other(log: ComparisonLog) -> None:
    log.append("v3-against-v2", _blocks(0, 3))
    log.append("v3-against-v2.since-4", _blocks(3, 4))

    assert log.names == ["v3-against-v2", "v3-against-v2.since-4"]
    assert (log.read("v3-against-v2").height, log.read("v3-against-v2.since-4").height) == (3, 1)
    assert log.read("never").is_empty()
    assert log.read("never").schema == PAIRED_BLOCKS.polars_schema


def test_blocks_of_another_shape_or_twice_are_refused_and_nothing_is_written(log: ComparisonLog) -> None:
    for wrong in (_blocks(0, 2).drop("symbols"), pl.concat([_blocks(0, 1), _blocks(0, 1)])):
        with pytest.raises(SchemaError):
            log.append("v3-against-v2", wrong)
    assert log.read("v3-against-v2").is_empty()


def test_a_file_that_cannot_be_read_is_named(log: ComparisonLog) -> None:
    log.append("v3-against-v2", _blocks(0, 3))
    (path,) = (log.folder / "v3-against-v2").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(LakeCorruptionError, match=r"000000\.parquet"):
        log.append("v3-against-v2", _blocks(3, 4))
