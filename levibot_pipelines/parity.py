"""Replay the served vectors of a home: which log and which lake belong together."""

from collections.abc import Iterator

from levibot_core.monitoring.parity import DayParity, OfflineComputation, replay_log
from levibot_core.stores.served_log import ServedLog
from levibot_pipelines.workspace import Workspace


def replay_served_vectors(workspace: Workspace) -> Iterator[DayParity]:
    """What the replay of each day of the log finds, oldest first; see `levibot_core.monitoring.parity`."""
    offline = OfflineComputation(workspace.lake, workspace.settings.market, workspace.timeframe)
    return replay_log(ServedLog(workspace.home.served_vectors), offline)
