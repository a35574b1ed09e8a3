"""What becomes of a candidate: judged by the gates, then challenger, and champion where nobody has to be beaten first.

A candidate that passed every gate replaces a base rate at once. A trained champion it meets in shadow first, see
`.shadow`.
"""

from collections.abc import Sequence

from levibot_core.models.card_sections import Judgement
from levibot_core.validation.gates import reasons_against_trading
from levibot_pipelines.cards import judge_card
from levibot_pipelines.registration import json_tag, trading_tags
from levibot_pipelines.registry import RegisteredVersion
from levibot_pipelines.workspace import Workspace

JUDGED_AGAINST = "judged_against"
"""Tag of a version: the champion that its gates compared it with."""


def judge_candidate(
    workspace: Workspace, version: int, reasons_of_backtest: Sequence[str]
) -> tuple[Judgement, list[str]]:
    """Put a version before the gates and keep the verdicts as its tags; gives them and all reasons against trading."""
    judgement = judge_card(workspace, version)
    reasons = [*reasons_of_backtest, *reasons_against_trading(judgement.trading_gates)]
    workspace.registry.annotate(version, {**_verdict_tags(judgement), **trading_tags(reasons)})
    return judgement, reasons


def judge_anew(workspace: Workspace, version: RegisteredVersion, champion: RegisteredVersion) -> RegisteredVersion:
    """A version with the verdicts of its gates against the present champion: judged again if it was another's.

    Raises:
        RegistryError: it has no card.
    """
    if version.tags.get(JUDGED_AGAINST) == str(champion.version):
        return version
    workspace.registry.annotate(version.version, _verdict_tags(judge_card(workspace, version.version)))
    return workspace.registry.version(version.version)


def failed_gates(version: RegisteredVersion) -> list[str]:
    """The promotion gates that a version did not pass; `never judged` where it was not."""
    if not version.gates:
        return ["never judged"]
    return [str(gate["gate"]) for gate in version.gates if not gate["passed"]]


def _verdict_tags(judgement: Judgement) -> dict[str, str]:
    verdicts = {"gates": judgement.gates, "trading_gates": judgement.trading_gates}
    tags = {name: json_tag([result.model_dump() for result in results]) for name, results in verdicts.items()}
    return {**tags, JUDGED_AGAINST: str(judgement.champion_version or "none")}
