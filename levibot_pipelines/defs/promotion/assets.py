"""Judge the candidate, and move the aliases."""

import dagster as dg

from levibot_core.validation.gates import reasons_against_trading
from levibot_pipelines.cards import judge_card
from levibot_pipelines.champions import promote
from levibot_pipelines.defs.shared.metadata import OWNERS
from levibot_pipelines.references import BacktestReference, CardReference, ChallengerReference
from levibot_pipelines.registration import json_tag, trading_tags
from levibot_pipelines.registry import CHALLENGER
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
    """The candidate under the alias `challenger`, judged by every gate. The verdicts are its blocking checks."""
    version = model_card.version
    judgement = judge_card(workspace, version)
    accepted = all(result.passed for result in judgement.gates)
    reasons = [*report.reasons_against_trading, *reasons_against_trading(judgement.trading_gates)]
    verdicts = {"gates": judgement.gates, "trading_gates": judgement.trading_gates}
    tags = {name: json_tag([result.model_dump() for result in results]) for name, results in verdicts.items()}
    workspace.registry.annotate(version, {**tags, **trading_tags(reasons)})
    workspace.registry.point(CHALLENGER, version)
    return dg.MaterializeResult(
        value=ChallengerReference(version=version, accepted=accepted),
        metadata={
            "version": version,
            "accepted": accepted,
            "tradable": "; ".join(reasons) or "yes",
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
    """The challenger as champion. Runs only after every gate passed; the alias moves last."""
    if not challenger.accepted:
        raise dg.Failure(f"Version {challenger.version} did not pass its gates and cannot become champion.")
    replaced = promote(workspace.registry, challenger.version, "dagster", "passed every promotion gate")
    return dg.MaterializeResult(
        metadata={"version": challenger.version, "replaced": replaced.version if replaced else "none"}
    )
