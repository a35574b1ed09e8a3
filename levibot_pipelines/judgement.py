"""Collect what the promotion gates look at: from the model card, the registry and the untouched test rows.

The verdicts themselves are `levibot_core.validation.gates`' work.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from levibot_core.backtest.metrics import backtest_metrics
from levibot_core.errors import SnapshotError
from levibot_core.models.card_sections import Judgement
from levibot_core.models.row_forecasts import predict_rows
from levibot_core.models.trial_returns import daily_returns, policy_rows
from levibot_core.validation.comparison import compare_with_base_rate, compare_with_model
from levibot_core.validation.gates import (
    GateFacts,
    LossComparison,
    TradingFacts,
    evaluate_gates,
    evaluate_trading_gates,
)
from levibot_core.validation.trading_evidence import measure_trading
from levibot_pipelines.backtests import account_of
from levibot_pipelines.card_inputs import Subject
from levibot_pipelines.rebuilding import REBUILD_TAG
from levibot_pipelines.registry import RegisteredVersion
from levibot_pipelines.workspace import Workspace


def judge(
    workspace: Workspace, subject: Subject, card: Mapping[str, Any], champion: RegisteredVersion | None
) -> Judgement:
    """Put everything before the gates: what is on the card, and the comparison with a champion.

    Args:
        workspace: The home.
        subject: The version that wants to be promoted.
        card: Its card, not yet judged.
        champion: The version it has to beat; None when there is none.
    """
    against_champion = _against(workspace, subject, champion)
    rebuilt = json.loads(subject.registered.tags.get(REBUILD_TAG, "{}"))
    facts = GateFacts(
        leak_check_passed=card["leakage"]["passed"],
        leak_check_failures=tuple(check["detail"] for check in card["leakage"]["checks"] if not check["passed"]),
        calibration_error=card["metrics"]["test"]["ece"],
        latency_p95_ms=card["latency"]["p95_ms"],
        against_champion=against_champion,
        against_base_rate=compare_with_base_rate(
            subject.bundle, subject.calibrated.report.base_rate, subject.split.test, subject.split.history
        ),
        snapshot_verified=_verified(workspace, subject.snapshot.manifest.snapshot_id),
        code_version=card["provenance"]["code_version"],
        source_kind=subject.snapshot.manifest.source.kind,
        champion_source_kind=champion.tags.get("source_kind") if champion else None,
        rebuild_passed=rebuilt.get("identical"),
        rebuild_detail="; ".join(rebuilt.get("mismatches", ())),
        trading=_trading(workspace, subject),
    )
    backtest = account_of(workspace, subject.bundle, subject.snapshot, subject.split.test)
    return Judgement(
        at=datetime.now(UTC),
        gates=evaluate_gates(facts),
        champion_version=champion.version if champion else None,
        against_champion=against_champion,
        sharpe=backtest_metrics(backtest.result).strategy.sharpe,
        trading=facts.trading,
        trading_gates=evaluate_trading_gates(facts),
    )


def _against(workspace: Workspace, subject: Subject, champion: RegisteredVersion | None) -> LossComparison | None:
    if champion is None:
        return None
    return compare_with_model(
        subject.bundle,
        workspace.registry.load_bundle(champion.version),
        subject.split.test,
        f"the champion, version {champion.version}",
        subject.split.history,
    )


def _trading(workspace: Workspace, subject: Subject) -> TradingFacts:
    """What the policy earned on the test rows, beside every trial ever run and those it was chosen among."""
    bundle, split = subject.bundle, subject.split
    _, lifetime = workspace.trial_store.ledger.returns_matrix(bundle.manifest.model_name)
    candidates = subject.trials.filter(pl.col("state") == "complete")
    return measure_trading(
        daily_returns(
            predict_rows(bundle, split.test, split.history),
            policy_rows(split.test, split.train, bundle.manifest.triple_barrier),
        ),
        lifetime.T,
        np.array(candidates["returns"].to_list(), dtype=np.float64),
    )


def _verified(workspace: Workspace, snapshot_id: str) -> bool:
    try:
        workspace.snapshots.verify(snapshot_id)
    except SnapshotError:
        return False
    return True
