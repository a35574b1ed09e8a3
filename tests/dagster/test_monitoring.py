"""The checks and schedules of feature monitoring; the assets are tested on the home of a whole lifecycle."""

import json
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from levibot_core.config import load_settings
from levibot_core.market.sources import SourceIdentity
from levibot_core.stores.files import write_json_atomically
from levibot_core.stores.paths import Home
from levibot_pipelines.defs.monitoring.checks import fresh, no_mismatches
from levibot_pipelines.defs.monitoring.schedules import daily_monitoring, hourly_watch
from levibot_pipelines.monitored import staleness_report
from levibot_pipelines.resources.workspace import WorkspaceResource
from levibot_pipelines.workspace import Workspace

_MORNING = datetime(2026, 1, 2, 5, 3, tzinfo=UTC)


@pytest.fixture
def workspace(simulated_home: Home) -> Workspace:
    return Workspace.open(load_settings(home=simulated_home.root))


def _tick(schedule: dg.ScheduleDefinition) -> Any:
    with dg.build_schedule_context(
        scheduled_execution_time=_MORNING, resources={"workspace": WorkspaceResource()}
    ) as context:
        return schedule(context)


@pytest.mark.parametrize("stale", [0, 2])
def test_stale_features_are_a_failed_check_that_names_them(workspace: Workspace, stale: int) -> None:
    oldest = [{"symbol": "SOL/USDT", "feature": "rsi_14", "newest": None, "age_s": None}]
    write_json_atomically(
        staleness_report(workspace), {"limit_s": 300.0, "values": 120, "stale": stale, "oldest": oldest}
    )

    found = fresh(workspace=workspace)

    assert found.passed is (stale == 0)
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert f"{stale} of 120 values are older than 300 s" in str(found.description)
    assert ("rsi_14" in str(found.metadata)) is (stale > 0)


@pytest.mark.parametrize("mismatches", [0, 1])
def test_a_mismatch_is_a_failed_check_that_names_it(workspace: Workspace, mismatches: int) -> None:
    differences = [{"symbol": "BTC/USDT", "feature": "rsi_14", "served": 0.5, "offline": None}] * mismatches
    report = {"compared": 4_100, "mismatches": mismatches, "differences": differences}
    write_json_atomically(workspace.home.parity_report, report)

    found = no_mismatches(workspace=workspace)

    assert found.passed is (mismatches == 0)
    assert f"{mismatches} of 4,100 values differ" in str(found.description)
    assert ("rsi_14" in str(found.metadata)) is (mismatches > 0)


def test_an_empty_home_is_not_watched(workspace: Workspace) -> None:
    assert workspace.home.root.exists()
    for schedule in (hourly_watch, daily_monitoring):
        assert isinstance(_tick(schedule), dg.SkipReason)


def test_a_home_with_data_is_watched_once_an_hour_and_monitored_once_a_day(workspace: Workspace) -> None:
    workspace.lake.set_current_source(SourceIdentity("simulated", "simulated-s7-e0.15", "simulated", "invented"))
    assert _tick(hourly_watch).run_key == "watch:2026-01-02T05"
    assert isinstance(_tick(daily_monitoring), dg.SkipReason)

    folder = workspace.home.snapshots / "20260101T000000Z-0123456789ab"
    folder.mkdir()
    (folder / "snapshot.json").write_text(json.dumps(_manifest(folder.name)))
    assert _tick(daily_monitoring).run_key == "monitoring:2026-01-02"


def _manifest(snapshot_id: str) -> dict[str, object]:
    instant = "2026-01-01T00:00:00Z"
    return {
        "snapshot_id": snapshot_id,
        **dict.fromkeys(("created_at", "as_of", "first_ts", "last_ts"), instant),
        **dict.fromkeys(("checksum", "market", "timeframe", "feature_set", "features_sha256"), "any"),
        **dict.fromkeys(("rows", "horizon_bars", "warm_up"), 1),
        "dropped": {},
        "symbols": ["BTC/USDT"],
        "features": ["rsi_14"],
        "source": {"kind": "simulated", "key": "any", "venue": "any", "description": "any"},
    }
