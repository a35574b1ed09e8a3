import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence

import pytest

from levibot_serving.lane import Lane

pytestmark = pytest.mark.anyio

Answers = Mapping[int, "str | Exception"]


class Server:
    """Answers when it is let, and remembers in which batches it was asked."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.let = threading.Event()
        self.let.set()

    def __call__(self, keys: Sequence[int]) -> Answers:
        self.batches.append(sorted(keys))
        assert self.let.wait(10)
        if 13 in keys:
            raise ZeroDivisionError
        return {key: ValueError(str(key)) if key < 0 else str(key) for key in keys}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def lane(server: Server) -> Iterator[Lane[int, str]]:
    lane = Lane("test-lane", server, deadline_s=0.2)
    yield lane
    server.let.set()
    lane.close()


async def test_those_who_wait_are_asked_for_at_once_and_each_gets_its_own(server: Server, lane: Lane[int, str]) -> None:
    server.let.clear()
    first = asyncio.ensure_future(lane.get(1))
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(lane.get(key)) for key in (2, 3, 2, -4)]
    await asyncio.sleep(0)
    server.let.set()
    found = await asyncio.gather(first, *others, return_exceptions=True)
    assert found[:4] == ["1", "2", "3", "2"]
    assert isinstance(found[4], ValueError)
    assert server.batches == [[1], [-4, 2, 3]]


async def test_a_question_is_asked_after_it_came_never_answered_by_an_earlier_one(
    server: Server, lane: Lane[int, str]
) -> None:
    server.let.clear()
    first = asyncio.ensure_future(lane.get(1))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(lane.get(1))
    await asyncio.sleep(0)
    server.let.set()
    assert await asyncio.gather(first, second) == ["1", "1"]
    assert server.batches == [[1], [1]]


async def test_nobody_waits_longer_than_the_deadline_and_behind_an_overdue_question_nobody_waits(
    server: Server, lane: Lane[int, str]
) -> None:
    server.let.clear()
    with pytest.raises(TimeoutError):
        await lane.get(1)
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await lane.get(2)
    server.let.set()
    while True:
        try:
            assert await lane.get(3) == "3"
        except TimeoutError:
            await asyncio.sleep(0.01)
        else:
            break
    assert 2 not in {key for batch in server.batches for key in batch}


async def test_a_failure_of_the_server_reaches_all_who_asked(lane: Lane[int, str]) -> None:
    found = await asyncio.gather(lane.get(13), lane.get(13), return_exceptions=True)
    assert [type(one) for one in found] == [ZeroDivisionError, ZeroDivisionError]
    assert await lane.get(5) == "5"
