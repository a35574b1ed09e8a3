from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from levibot_core.errors import HomeNotWritableError, LakeCorruptionError, SchemaError
from levibot_core.stores.trial_ledger import LEDGER_SCHEMA, TrialLedger


def trials(numbers: list[int], study: str = "a", model: str = "m", first_day: int = 1, days: int = 2) -> pl.DataFrame:
    dates = [date(2025, 1, first_day + day) for day in range(days)]
    rows = [
        {
            "model_name": model,
            "family": "lightgbm",
            "study": study,
            "trial": number,
            "state": "complete",
            "parameters": "{}",
            "log_loss": 0.69,
            "profit_weighted_log_loss": 0.7,
            "sharpe_per_day": 0.0,
            "returns": [number / 100 + day for day in range(days)],
            "days": dates,
            "seconds": 1.0,
            "snapshot_id": "s",
            "seed": 7,
            "finished_at": datetime(2025, 1, 1, tzinfo=UTC),
        }
        for number in numbers
    ]
    return pl.DataFrame(rows, schema=LEDGER_SCHEMA)


@pytest.fixture
def ledger(tmp_path: Path) -> TrialLedger:
    return TrialLedger(tmp_path / "new" / "ledger")


def test_an_empty_ledger_reads_as_no_trials(ledger: TrialLedger) -> None:
    assert ledger.read().schema == LEDGER_SCHEMA
    assert ledger.read().is_empty()
    days, matrix = ledger.returns_matrix("m")
    assert (days, matrix.shape) == ([], (0, 0))
    assert ledger.append(trials([])) == 0


def test_each_trial_is_kept_once_and_no_file_is_ever_rewritten(ledger: TrialLedger) -> None:
    assert ledger.append(trials([0, 1])) == 2
    first = next(ledger.folder.glob("*.parquet"))
    content = first.read_bytes()
    assert ledger.append(trials([0, 1])) == 0
    assert ledger.append(trials([0, 1, 3])) == 1
    assert ledger.append(trials([0], study="b", model="other")) == 1

    assert first.read_bytes() == content
    assert sorted(path.name for path in ledger.folder.glob("*.parquet")) == [
        "a.0000.parquet",
        "a.0001.parquet",
        "b.0000.parquet",
    ]
    assert ledger.read("m")["trial"].to_list() == [0, 1, 3]
    assert ledger.read().height == 4
    assert ledger.read("m").equals(trials([0, 1, 3]))


def test_processes_that_append_the_same_trials_add_them_once(ledger: TrialLedger) -> None:
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(ledger.append, [trials(list(range(count))) for count in (3, 5, 4, 5)]))
    assert sum(added) == 5
    assert ledger.read()["trial"].to_list() == [0, 1, 2, 3, 4]


def test_returns_of_different_days_stand_beside_each_other(ledger: TrialLedger) -> None:
    ledger.append(trials([0, 1], days=2))
    ledger.append(trials([0], study="b", first_day=2, days=3))
    days, matrix = ledger.returns_matrix("m")
    assert days == [date(2025, 1, day) for day in (1, 2, 3, 4)]
    expected = [[0.0, 0.01, np.nan], [1.0, 1.01, 0.0], [np.nan, np.nan, 1.0], [np.nan, np.nan, 2.0]]
    np.testing.assert_array_equal(matrix, np.array(expected))


def test_returns_stand_in_the_order_in_which_trials_finished(ledger: TrialLedger) -> None:
    ledger.append(trials([0, 1], study="z"))
    ledger.append(trials([2], study="a").with_columns(pl.col("finished_at").dt.offset_by("1h")))
    assert ledger.returns_matrix("m")[1][0].tolist() == [0.0, 0.01, 0.02]


def test_a_file_that_cannot_be_read_is_an_error_and_not_fewer_trials(ledger: TrialLedger) -> None:
    ledger.append(trials([0]))
    broken = next(ledger.folder.glob("*.parquet"))
    broken.write_bytes(broken.read_bytes()[:-9])
    for use in (ledger.read, lambda: ledger.append(trials([1]))):
        with pytest.raises(LakeCorruptionError, match=r"a\.0000\.parquet"):
            use()
    assert len(list(ledger.folder.glob("*.parquet"))) == 1


def test_rows_that_are_no_trials_are_refused(ledger: TrialLedger) -> None:
    for wrong in (
        trials([0]).drop("seed"),
        trials([0]).with_columns(pl.col("seed").cast(pl.Int32)),
        trials([0, 0]),
        pl.concat([trials([0]), trials([0], study="b")]),
        trials([0]).with_columns(days=pl.lit([date(2025, 1, 1)], pl.List(pl.Date()))),
    ):
        with pytest.raises(SchemaError):
            ledger.append(wrong)
    assert not ledger.folder.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeNotWritableError):
        TrialLedger(tmp_path / "file" / "ledger").append(trials([0]))
