from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from levibot_core.market.timeframe import Timeframe
from levibot_pipelines.defs.drift.sensors import REPORT, drift_retrain
from levibot_pipelines.defs.promotion.schedules import nightly_shadow
from levibot_pipelines.defs.shared.automation import bar_cron
from levibot_pipelines.defs.training.schedules import nightly_retrain
from levibot_pipelines.resources.workspace import WorkspaceResource

_NIGHT = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    # Closed, or its temporary folder is cleaned up in the middle of another test, with a warning.
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def _report(instance: dg.DagsterInstance, level: str, version: int = 1, day: str = "2026-01-02") -> None:
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            REPORT, metadata={"level": level, "champion_version": version, "report_day": day, "critical_features": 12}
        )
    )


def _tick(instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    result = drift_retrain(dg.build_sensor_context(instance=instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    return result


def test_without_a_report_the_drift_sensor_waits(instance: dg.DagsterInstance) -> None:
    assert _tick(instance, None).skip_reason is not None


@pytest.mark.parametrize("level", ["ok", "warning"])
def test_mild_drift_starts_nothing(instance: dg.DagsterInstance, level: str) -> None:
    _report(instance, level)

    result = _tick(instance, None)

    assert not result.run_requests
    assert result.cursor is not None


def test_critical_drift_starts_one_retraining_per_champion_and_day(instance: dg.DagsterInstance) -> None:
    _report(instance, "critical")

    first = _tick(instance, None)
    again = _tick(instance, first.cursor)

    assert [request.run_key for request in first.run_requests or []] == ["drift:1:2026-01-02"]
    assert not again.run_requests


def test_another_report_of_the_same_day_has_the_same_run_key(instance: dg.DagsterInstance) -> None:
    _report(instance, "critical")
    first = _tick(instance, None)
    _report(instance, "critical")

    second = _tick(instance, first.cursor)

    assert second.cursor != first.cursor
    assert [request.run_key for request in second.run_requests or []] == ["drift:1:2026-01-02"]


def test_a_new_champion_is_a_new_cause(instance: dg.DagsterInstance) -> None:
    _report(instance, "critical", version=2)

    assert [request.run_key for request in _tick(instance, None).run_requests or []] == ["drift:2:2026-01-02"]


@pytest.mark.usefixtures("simulated_home")
def test_the_nightly_schedule_asks_for_one_run_over_the_newest_months(instance: dg.DagsterInstance) -> None:
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=_NIGHT, resources={"workspace": WorkspaceResource()}
    ) as context:
        (request,) = nightly_retrain(context)

    assert request.run_key == "nightly:2026-01-02"
    assert request.tags["dagster/asset_partition_range_start"].endswith("|BTC-USDT")
    assert request.tags["dagster/asset_partition_range_end"].endswith("|SOL-USDT")
    assert nightly_retrain.cron_schedule == "0 3 * * *"
    assert nightly_retrain.execution_timezone == "UTC"


@pytest.mark.usefixtures("simulated_home")
def test_the_nightly_schedule_says_why_it_skips(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIBOT_SOURCE", "recorded")
    monkeypatch.delenv("LEVIBOT_MARKET_DATA", raising=False)

    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=_NIGHT, resources={"workspace": WorkspaceResource()}
    ) as context:
        (answer,) = nightly_retrain(context)

    assert isinstance(answer, dg.SkipReason)
    assert "LEVIBOT_MARKET_DATA" in str(answer.skip_message)


@pytest.mark.usefixtures("simulated_home")
def test_nothing_is_compared_in_a_home_without_a_champion(instance: dg.DagsterInstance) -> None:
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=_NIGHT, resources={"workspace": WorkspaceResource()}
    ) as context:
        answer = nightly_shadow(context)

    assert isinstance(answer, dg.SkipReason)
    assert nightly_shadow.cron_schedule == "30 4 * * *"
    assert nightly_shadow.execution_timezone == "UTC"


@pytest.mark.parametrize(("timeframe", "cron"), [("5m", "*/5 * * * *"), ("4h", "0 */4 * * *"), ("1d", "0 0 * * *")])
def test_candles_are_taken_in_at_every_close(timeframe: str, cron: str) -> None:
    assert bar_cron(Timeframe.parse(timeframe)) == cron


def test_new_candles_ask_for_their_features_once_their_checks_passed(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    candles, features = dg.AssetKey(["ingestion", "candles"]), dg.AssetKey(["feature_store", "features"])
    partition = definitions.resolve_asset_graph().get(candles).partitions_def.get_last_partition_key()
    before = dg.evaluate_automation_conditions(definitions, instance)
    assert before.get_num_requested(features) == 0

    instance.report_runless_asset_event(dg.AssetMaterialization(["ingestion", "fear_greed"]))
    for name in ("candles", "funding_rates"):
        instance.report_runless_asset_event(dg.AssetMaterialization(["ingestion", name], partition=partition))
    unchecked = dg.evaluate_automation_conditions(definitions, instance, cursor=before.cursor)
    for check in definitions.resolve_asset_graph().asset_check_keys:
        if check.asset_key == candles:
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(asset_key=candles, check_name=check.name, passed=True)
            )
    checked = dg.evaluate_automation_conditions(definitions, instance, cursor=unchecked.cursor)

    assert (unchecked.get_num_requested(features), checked.get_num_requested(features)) == (0, 1)
