"""The certificate in Dagster: made without running a market, and a check that fails on what 5 % do not explain."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import pytest

from levibot_core.config import load_settings
from levibot_core.stores.paths import Home
from levibot_core.validation.certificate import MarketOutcome
from levibot_core.validation.gates import LossComparison
from levibot_pipelines import certification
from levibot_pipelines.certification import Job
from levibot_pipelines.defs.certificate.assets import CertificateConfig, report
from levibot_pipelines.defs.certificate.checks import few_false_promotions
from levibot_pipelines.defs.certificate.schedules import nightly_certificate
from levibot_pipelines.workspace import Workspace


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def _promoting(false: int, seed: int) -> object:
    """Outcomes instead of markets: the first ones without an edge promoted, and all with one."""

    def run(jobs: Sequence[Job]) -> Iterator[MarketOutcome]:
        for job in jobs:
            promoted = bool(job.market.edge) or job.market.seed < seed + false
            mean = -0.002 if promoted else 0.001
            loss = LossComparison(reference="a half", mean=mean, lower_95=-0.1, upper_95=0.1, upper_999=mean + 0.001)
            yield MarketOutcome(
                market=job.market,
                family="lightgbm",
                promoted=promoted,
                refused_by=() if promoted else ("beats_champion",),
                against_champion=loss,
                against_base_rate=loss,
                test_rows=10,
                seconds=1.0,
            )

    return run


@pytest.mark.parametrize(("false", "passes"), [(3, True), (4, False)])
def test_four_false_promotions_of_twenty_fail_the_run_and_say_why(
    instance: dg.DagsterInstance, home: Home, false: int, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certification, "run_jobs", _promoting(false, 1))
    monkeypatch.setattr(certification, "ensure_database", lambda _: None)
    settings = load_settings(home=home.root).model_copy(update={"market_data": None})
    result = dg.materialize(
        [report, few_false_promotions],
        instance=instance,
        resources={"workspace": Workspace(settings, home)},
        run_config=dg.RunConfig(ops={"certificate__report": CertificateConfig(markets=20, seed=1)}),
        raise_on_error=False,
    )
    (check,) = result.get_asset_check_evaluations()
    assert (result.success, check.passed, check.severity) == (passes, passes, dg.AssetCheckSeverity.ERROR)
    assert check.description is not None and check.description.startswith(f"{false} of 20 markets without an edge")
    shown = result.asset_materializations_for_node("certificate__report")[0].metadata
    assert shown["false_promotions"].value == false
    assert str(shown["plot"].value).startswith("![plot](data:image/png")
    assert Path(str(shown["page"].value)).read_text("utf-8").startswith("<!doctype html>")
    said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("28 of 28 markets, simulated, planted edge 0.3: promoted" in message for message in said)


def test_nobody_gives_a_machine_away_without_being_asked() -> None:
    assert nightly_certificate.default_status is dg.DefaultScheduleStatus.STOPPED
    assert nightly_certificate.cron_schedule == "30 0 * * *"
