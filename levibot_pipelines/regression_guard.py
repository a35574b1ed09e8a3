"""The regression guard: the champion's backtest computed again on its frozen window, and what follows from a drop.

On main and every night. The window is the test period of the snapshot that the champion was judged on, so rows,
candles and model are the same bytes: what comes out worse, the code or its libraries made worse. What a drop is, is
decided in `levibot_core.validation.backtest_regression`; a person decides about the rollback.
"""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from levibot_core.errors import LevibotError, RegistryError
from levibot_core.models.predictors import BASE_RATE
from levibot_core.monitoring.regression_plots import regression_png
from levibot_core.registry.champions import Figures
from levibot_core.registry.rollback_candidates import clear, mark
from levibot_core.stores.files import write_bytes_atomically, write_json_atomically
from levibot_core.validation.backtest_regression import BacktestRecord, RegressionVerdict, judge_regression
from levibot_pipelines.alerts import raise_alert
from levibot_pipelines.champion_backtest import recomputed_backtest, recorded_backtest
from levibot_pipelines.provenance import code_version
from levibot_pipelines.registry import CHAMPION, RegisteredVersion
from levibot_pipelines.workspace import Workspace

SOURCE = "regression_guard"
NOTHING = "the base rate knows nothing about now and was never traded: there is no backtest to hold it against"


class GuardReport(BaseModel):
    """What one look at the champion came to."""

    model_config = ConfigDict(frozen=True)

    format: Literal["levibot-regression-guard/1"] = "levibot-regression-guard/1"
    at: AwareDatetime
    model: str
    version: int
    family: str
    snapshot_id: str
    code_then: str = Field(description="Code that the champion was trained and judged with")
    code_now: str
    recorded: BacktestRecord | None = Field(description="None for a base rate, which has no backtest")
    recomputed: BacktestRecord | None
    verdict: RegressionVerdict | None
    seconds: float

    @property
    def regressed(self) -> bool:
        """Whether the champion is not what it was."""
        return self.verdict is not None and self.verdict.regressed

    @property
    def found(self) -> str:
        """The result in words."""
        return NOTHING if self.verdict is None else self.verdict.found


def guard_champion(workspace: Workspace, actor: str) -> tuple[GuardReport, bytes | None]:
    """Compute the champion's backtest again, keep report and picture, and mark and tell about a drop.

    A champion that dropped becomes a rollback candidate, in the audit log and on its version, until a later look finds
    it as it was. Raises no error for a drop: the report says so.

    Args:
        workspace: The home.
        actor: Who looks, for the audit log.

    Returns:
        The report, and its picture where there was something to compare.

    Raises:
        RegistryError: there is no champion, or nothing that was recorded of it.
        LevibotError: its backtest cannot be computed again, as a snapshot that is not what it was. An alert is raised.
    """
    champion = workspace.registry.by_alias(CHAMPION)
    if champion is None:
        raise RegistryError("Expected a champion to guard, was none. `levibot run` trains and judges a first one.")
    try:
        report, png = _look(workspace, champion)
    except Exception as error:  # Also a defect: a guard that fails in silence guards nothing.
        title = f"{workspace.settings.model_name} version {champion.version}: its backtest cannot be computed again"
        text = str(error) if isinstance(error, LevibotError) else f"{type(error).__name__}: {error}"
        raise_alert(workspace.settings, workspace.home, SOURCE, title, text, {"version": champion.version})
        raise
    _act(workspace, champion, report, actor)
    _keep(workspace, report, png)
    return report, png


def _look(workspace: Workspace, champion: RegisteredVersion) -> tuple[GuardReport, bytes | None]:
    started, name = time.perf_counter(), workspace.settings.model_name
    recorded: BacktestRecord | None = None
    recomputed: BacktestRecord | None = None
    verdict: RegressionVerdict | None = None
    png: bytes | None = None
    if champion.family != BASE_RATE:
        recorded, recomputed = recorded_backtest(workspace, champion), recomputed_backtest(workspace, champion)
        verdict = judge_regression(recorded, recomputed)
        png = regression_png(recorded, recomputed, f"{name} version {champion.version}, computed again")
    report = GuardReport(
        at=datetime.now(UTC),
        model=name,
        version=champion.version,
        family=champion.family,
        snapshot_id=champion.tags.get("snapshot_id", "none"),
        code_then=champion.tags.get("code_version", "unknown"),
        code_now=code_version(),
        recorded=recorded,
        recomputed=recomputed,
        verdict=verdict,
        seconds=time.perf_counter() - started,
    )
    return report, png


def _act(workspace: Workspace, champion: RegisteredVersion, report: GuardReport, actor: str) -> None:
    """Mark and tell, or take back a mark."""
    if not report.regressed:
        clear(workspace.registry, champion, actor, report.found, _figures(report))
        return
    mark(workspace.registry, champion, actor, report.found, _figures(report))
    details: dict[str, JsonValue] = {
        **_figures(report),
        "version": report.version,
        "snapshot_id": report.snapshot_id,
        "code_then": report.code_then,
        "code_now": report.code_now,
    }
    raise_alert(
        workspace.settings,
        workspace.home,
        SOURCE,
        f"{report.model} version {report.version} is a rollback candidate",
        f"{report.found}. Same model, rows and candles, so the code made the difference: find out what changed since "
        f"{report.code_then[:12]}, or return to the champion before it with `levibot models rollback --reason ...`.",
        details,
    )


def _keep(workspace: Workspace, report: GuardReport, png: bytes | None) -> None:
    folder = workspace.home.reports / "promotion"
    if png is not None:
        write_bytes_atomically(folder / f"{SOURCE}.png", png)
    write_json_atomically(folder / f"{SOURCE}.json", report_json(report))


def report_json(report: GuardReport) -> dict[str, Any]:
    """The report for machines, without the trades of both backtests."""
    return {**report.model_dump(mode="json"), "regressed": report.regressed, "found": report.found}


def read_report(workspace: Workspace) -> tuple[dict[str, Any], bytes | None]:
    """The newest report, as `report_json` gave it, and its picture.

    Raises:
        RegistryError: there is none.
    """
    folder = workspace.home.reports / "promotion"
    try:
        report: dict[str, Any] = json.loads((folder / f"{SOURCE}.json").read_bytes())
    except (OSError, ValueError) as error:
        raise RegistryError(
            f"Expected the guard's report in {folder}, but {error}. Materialise promotion/{SOURCE}."
        ) from error
    picture = folder / f"{SOURCE}.png"
    return report, picture.read_bytes() if report["verdict"] is not None and picture.exists() else None


def guard_metadata(report: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a report that people look at first."""
    shown = {"version": report["version"], "family": report["family"], "found": report["found"]}
    if report["verdict"] is None:
        return shown
    was, now, verdict = report["recorded"], report["recomputed"], report["verdict"]
    return {
        **shown,
        "required": verdict["required"],
        "rollback_candidate": verdict["regressed"],
        "every_bit_the_same": verdict["identical"],
        "sharpe_when_judged": "none" if was["sharpe"] is None else was["sharpe"],
        "sharpe_now": "none" if now["sharpe"] is None else now["sharpe"],
        "trades_when_judged": was["trades"],
        "trades_now": now["trades"],
        "log_loss_when_judged": was["log_loss"],
        "log_loss_now": now["log_loss"],
        "differences": list(verdict["differences"]),
        "snapshot_id": report["snapshot_id"],
        "code_then": report["code_then"],
        "code_now": report["code_now"],
        "seconds": report["seconds"],
    }


def _figures(report: GuardReport) -> Figures:
    if report.recorded is None or report.recomputed is None or report.verdict is None:
        return {}
    return {
        "sharpe_recorded": report.recorded.sharpe,
        "sharpe_now": report.recomputed.sharpe,
        "sharpe_drop": report.verdict.sharpe_drop,
        "trades_recorded": report.recorded.trades,
        "trades_now": report.recomputed.trades,
        "log_loss_recorded": report.recorded.log_loss,
        "log_loss_now": report.recomputed.log_loss,
    }
