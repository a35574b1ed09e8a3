"""What a home gives its backtests: funding as it was known at the snapshot's instant, and nothing learnt later."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from levibot_core.errors import MarketDataUnavailableError
from levibot_core.schemas import FUNDING_RATES, TIMESTAMP
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import Home, funding_dataset
from levibot_core.stores.training_rows import epoch_ms
from levibot_pipelines.backtest_files import kept_reports, read_report
from levibot_pipelines.backtests import known_funding

_START = datetime(2025, 1, 1, tzinfo=UTC)


def _settlements(rate: float, hours: list[int]) -> pl.DataFrame:
    settled = pl.Series([_START + timedelta(hours=hour) for hour in hours]).cast(TIMESTAMP)
    frame = pl.DataFrame({"symbol": "BTC/USDT", "ts": settled, "rate": rate, "known_at": settled, "venue": "a test"})
    return FUNDING_RATES.enforce(frame.with_columns(revision=pl.lit(0, pl.Int32)))


def test_funding_is_that_known_at_the_snapshots_instant(tmp_path: Path) -> None:
    lake, dataset = Lake(tmp_path), funding_dataset("recorded")
    lake.append(dataset, _settlements(0.001, [0, 8, 16]), epoch_ms(_START))
    # The second is corrected two days later, and more settle after the snapshot.
    lake.append(dataset, _settlements(0.009, [8, 24]), epoch_ms(_START + timedelta(days=2)))
    workspace: Any = SimpleNamespace(lake=lake)

    def known(hours: int) -> list[float]:
        manifest: Any = SimpleNamespace(
            source=SimpleNamespace(key="recorded"), symbols=("BTC/USDT",), as_of=_START + timedelta(hours=hours)
        )
        return known_funding(workspace, manifest)["rate"].to_list()

    assert known(16) == [0.001, 0.001, 0.001]
    assert known(8) == [0.001, 0.001]
    assert known(72) == [0.001, 0.009, 0.001, 0.009]


def test_a_home_without_funding_or_backtests_has_none(tmp_path: Path) -> None:
    manifest: Any = SimpleNamespace(source=SimpleNamespace(key="recorded"), symbols=("BTC/USDT",), as_of=_START)
    workspace: Any = SimpleNamespace(lake=Lake(tmp_path))

    assert known_funding(workspace, manifest).is_empty()
    assert kept_reports(Home.at(tmp_path)) == []
    with pytest.raises(MarketDataUnavailableError, match="levibot backtest list"):
        read_report(Home.at(tmp_path), "v1")
