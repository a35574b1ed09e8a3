"""Judge the candidate, compare models on new bars, and move the aliases."""

import dagster as dg

from levibot_core.models.predictors import BASE_RATE
from levibot_core.registry.champions import promote
from levibot_pipelines.candidates import judge_candidate
from levibot_pipelines.comparison_reports import keep_report, report_metadata
from levibot_pipelines.defs.shared.metadata import OWNERS, plot
from levibot_pipelines.gate_pictures import keep_loss_picture
from levibot_pipelines.references import BacktestReference, CardReference, ChallengerReference
from levibot_pipelines.registry import CHALLENGER, CHAMPION
from levibot_pipelines.regression_guard import guard_champion, guard_metadata, report_json
from levibot_pipelines.shadow import ComparisonNight, challenger_in_shadow, look_at_challenger, look_at_champion
from levibot_pipelines.workspace import Workspace


@dg.asset(
    key_prefix="promotion",
    group_name="promotion",
    io_manager_key="references",
    ins={
        "model_card": dg.AssetIn(["model_cards", "model_card"]),
        "report": dg.AssetIn(["backtest", "report"]),
    },
    kinds={"python", "mlflow"},
    owners=OWNERS,
)
def challenger(
    workspace: dg.ResourceParam[Workspace],
    model_card: CardReference,
    report: BacktestReference,
) -> dg.MaterializeResult[ChallengerReference]:
    """The candidate, judged by every gate, and challenger unless one is compared with the champion already.

    The verdicts are its blocking checks.
    """
    version, in_shadow = model_card.version, challenger_in_shadow(workspace)
    judgement, reasons = judge_candidate(workspace, version, report.reasons_against_trading)
    accepted = all(result.passed for result in judgement.gates)
    if in_shadow is None:
        workspace.registry.point(CHALLENGER, version)
    png = keep_loss_picture(workspace, version, judgement)
    return dg.MaterializeResult(
        value=ChallengerReference(version=version, accepted=accepted),
        metadata={
            "version": version,
            "accepted": accepted,
            "tradable": "; ".join(reasons) or "yes",
            "challenger": in_shadow.version if in_shadow else version,
            "refused_by": ", ".join(result.gate for result in judgement.gates if not result.passed) or "no gate",
            "plot": plot(png),
        },
    )


@dg.asset(
    key_prefix="promotion",
    group_name="promotion",
    ins={"challenger": dg.AssetIn(["promotion", "challenger"])},
    kinds={"python", "mlflow"},
    owners=OWNERS,
)
def champion(workspace: dg.ResourceParam[Workspace], challenger: ChallengerReference) -> dg.MaterializeResult[None]:
    """The candidate as champion where that is the base rate: a trained champion it meets in shadow first.

    Runs only after every gate passed; the alias moves last.
    """
    if not challenger.accepted:
        raise dg.Failure(f"Version {challenger.version} did not pass its gates and cannot become champion.")
    present = workspace.registry.by_alias(CHAMPION)
    if present is not None and present.family != BASE_RATE:
        return dg.MaterializeResult(metadata={"version": present.version, "in_shadow": challenger.version})
    promote(workspace.registry, challenger.version, "dagster", "passed every gate; the champion was no trained model")
    return dg.MaterializeResult(
        metadata={"version": challenger.version, "replaced": present.version if present else "none"}
    )


@dg.asset(
    key_prefix="promotion",
    group_name="promotion",
    deps=[["ingestion", "candles"], ["promotion", "champion"]],
    kinds={"python", "mlflow", "parquet"},
    owners=OWNERS,
)
def champion_watch(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """The champion against the one before it on the bars since both were trained: rolled back when it is worse."""
    return _looked(workspace, look_at_champion(workspace), "champion_watch")


@dg.asset(
    key_prefix="promotion",
    group_name="promotion",
    # After the watch: who was rolled back is not compared with.
    deps=[["ingestion", "candles"], ["promotion", "challenger"], champion_watch],
    kinds={"python", "mlflow", "parquet"},
    owners=OWNERS,
)
def shadow(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """The challenger against the champion on the same new bars: promoted when it is better and passed every gate."""
    return _looked(workspace, look_at_challenger(workspace), "shadow")


@dg.asset(
    key_prefix="promotion",
    group_name="promotion",
    deps=[["promotion", "champion"]],
    kinds={"python", "mlflow", "numba"},
    owners=OWNERS,
)
def regression_guard(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """The champion's backtest computed again on the rows it was judged on: a drop makes it a rollback candidate."""
    guarded, png = guard_champion(workspace, "levibot")
    for difference in guarded.verdict.differences if guarded.verdict else ():
        context.log.warning(f"Not as it was: {difference}")
    shown = guard_metadata(report_json(guarded))
    return dg.MaterializeResult(metadata={**shown, **({"plot": plot(png)} if png else {})})


def _looked(workspace: Workspace, night: ComparisonNight | None, kind: str) -> dg.MaterializeResult[None]:
    report, png = keep_report(workspace, night, kind)
    return dg.MaterializeResult(metadata={**report_metadata(report), **({"plot": plot(png)} if png else {})})
