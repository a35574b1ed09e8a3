"""Reading the stream of forecasts: server-sent events (WHATWG HTML, section 9.2), of which one kind is of interest."""

from collections.abc import AsyncIterator, Iterator

import httpx

from levibot_serving.contract_analytics import RecentPrediction

STREAM_PATH = "/stream/predictions"
STREAM_TIMEOUT = httpx.Timeout(10.0, read=60.0)
"""Heartbeats come every 15 s: a minute without one is a connection that is gone."""
_DATA = "data: "


def predictions_of(lines: Iterator[str]) -> Iterator[RecentPrediction]:
    """The forecasts among the lines of a stream."""
    for line in lines:
        if line.startswith(_DATA):
            yield RecentPrediction.model_validate_json(line.removeprefix(_DATA))


async def predictions_as_they_come(lines: AsyncIterator[str]) -> AsyncIterator[RecentPrediction]:
    """The forecasts among the lines of a stream."""
    async for line in lines:
        if line.startswith(_DATA):
            yield RecentPrediction.model_validate_json(line.removeprefix(_DATA))
