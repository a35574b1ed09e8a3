"""Replay the served vectors of a home: which log and which lake belong together."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from levibot_core.monitoring.parity import OfflineComputation, replay_log
from levibot_core.monitoring.parity_report import ParityReport, parity_report, replay_since
from levibot_core.stores.served_log import ServedLog
from levibot_pipelines.workspace import Workspace


def replay_served_vectors(workspace: Workspace, previous: Mapping[str, Any] | None = None) -> ParityReport:
    """Compare what was served with the offline computation.

    Args:
        workspace: The home.
        previous: The report before; days that cannot have grown since are taken from it. None replays every day.

    Raises:
        LakeCorruptionError: a file of the lake cannot be read.
    """
    log, now = ServedLog(workspace.home.served_vectors), datetime.now(UTC)
    offline = OfflineComputation(workspace.lake, workspace.settings.market, workspace.timeframe)
    return parity_report(replay_log(log, offline, replay_since(previous)), now, log.files().keys(), previous)
