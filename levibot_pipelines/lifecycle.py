"""What a lifecycle run covers, shared by the command line and the schedules."""

from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_pipelines.defs.shared.partitions import range_tags
from levibot_pipelines.workspace import Workspace


def lifecycle_tags(workspace: Workspace, days: int) -> dict[str, str]:
    """Run tags that select the partitions of the last `days` days that every symbol of the source has.

    Raises:
        LevibotError: the source cannot be reached or lacks a symbol.
    """
    settings = workspace.settings
    newest = min(
        workspace.source.latest_close_ms(symbol, settings.market, workspace.timeframe) for symbol in settings.symbols
    )
    if settings.until is not None:
        newest = min(newest, int(settings.until.timestamp() * 1000))
    # Training ends with the last whole day; the warm-up of the first day's features comes on top.
    start = newest // MILLISECONDS_PER_DAY * MILLISECONDS_PER_DAY - days * MILLISECONDS_PER_DAY
    return range_tags(settings.symbols, start, newest)
