from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from levibot_core.security.roles import Principal, Role
from levibot_serving.config import ServingSettings, load_serving_settings
from levibot_serving.errors import ApiError
from levibot_serving.security.counters import Counters
from levibot_serving.security.rate_limits import RateLimits

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("clock")]

VIEWER = Principal("viewer", Role.VIEWER, "s", "c")
ENGINE = Principal("engine", Role.SERVICE, "s", "c")


async def allowed(
    limits: RateLimits, principal: Principal = VIEWER, address: str = "10.0.0.1", tries: int = 100
) -> int:
    return sum([(await limits.charge_forecasts(principal, address)).allowed for _ in range(tries)])


async def test_a_user_at_an_address_may_ask_sixty_times_a_minute(settings: ServingSettings, clock: list[float]) -> None:
    limits = RateLimits(settings)
    charges = [await limits.charge_forecasts(VIEWER, "10.0.0.1") for _ in range(61)]
    assert [charge.allowed for charge in charges] == [True] * 60 + [False]
    assert [charge.remaining for charge in charges] == [*range(59, -1, -1), 0]
    refusal = charges[-1].refusal()
    assert (refusal.status, refusal.code) == (429, "rate_limited")
    assert (refusal.headers or {})["Retry-After"] == "60"

    assert await allowed(limits, address="10.0.0.2") == 60
    assert await allowed(limits, Principal("other", Role.ADMIN, "s", "c")) == 60

    clock[0] += 90.0  # 29 of 60 seconds of the minute before still count.
    assert await allowed(limits) == 31
    clock[0] += 120.0
    assert await allowed(limits) == 60


async def test_engines_have_a_budget_of_their_own(settings: ServingSettings, clock: list[float]) -> None:
    limits = RateLimits(settings)
    for _ in range(180):  # 15 symbols a second, for three minutes.
        assert await allowed(limits, ENGINE, tries=15) == 15
        clock[0] += 1.0


async def test_a_batch_costs_as_many_as_it_has_symbols_or_nothing(settings: ServingSettings) -> None:
    limits = RateLimits(settings)
    assert (await limits.charge_forecasts(VIEWER, "a", 50)).remaining == 10
    refused = await limits.charge_forecasts(VIEWER, "a", 11)
    assert (refused.allowed, refused.remaining) == (False, 10)
    assert (await limits.charge_forecasts(VIEWER, "a", 10)).allowed
    with pytest.raises(ApiError, match="at most 60 forecasts at once") as larger:
        raise (await limits.charge_forecasts(VIEWER, "a", 60)).refusal(asked=61)
    assert larger.value.status == 400


def test_counts_are_forgotten(clock: list[float]) -> None:
    counters = Counters()
    for number in range(100):
        assert counters.take(str(number), 5, 60).allowed
    clock[0] += 200.0
    assert counters.take("another", 5, 60).allowed
    assert len(counters) == 1
    clock[0] -= 86_400.0
    assert counters.take("another", 5, 60).allowed


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.floats(0.0, 90.0), st.integers(1, 7)), max_size=25))
def test_what_is_counted_is_what_the_library_counts(clock: list[float], steps: list[tuple[float, int]]) -> None:
    counters, storage = Counters(), MemoryStorage()
    library, budget = SlidingWindowCounterRateLimiter(storage), RateLimitItemPerMinute(10)
    for pause_s, cost in steps:
        clock[0] += pause_s
        taken = counters.take("key", 10, 60, cost)
        assert taken.allowed == library.hit(budget, "key", cost=cost)
        stats = library.get_window_stats(budget, "key")
        assert taken.remaining == stats.remaining
        assert taken.reset_s == pytest.approx(stats.reset_time - clock[0], abs=1e-3)
    storage.timer.join()


async def test_applications_share_their_counts_in_redis(settings: ServingSettings, redis_server: Any) -> None:
    one, other = RateLimits(settings, redis_server.url), RateLimits(settings, redis_server.url)
    try:
        assert (await allowed(one, tries=40), await allowed(other, tries=40), await allowed(one, tries=5)) == (
            40,
            20,
            0,
        )
        refused = await other.charge_forecasts(VIEWER, "10.0.0.1")
        assert (refused.alone, refused.remaining) == (False, 0)
        assert (await one.charge_forecasts(ENGINE, "10.0.0.1", 15)).remaining == 1185
    finally:
        await one.close()
        await other.close()


async def test_without_redis_each_counts_for_itself_says_so_and_comes_back(
    settings: ServingSettings, start_redis: Callable[..., Any]
) -> None:
    server = start_redis()
    ticks = [0.0]
    limits = RateLimits(settings, server.url, clock=lambda: ticks[0])
    try:
        assert not (await limits.charge_forecasts(VIEWER, "a")).alone
        server.stop()
        charge = await limits.charge_forecasts(VIEWER, "a")
        assert (charge.allowed, charge.alone, charge.headers()["X-RateLimit-Scope"]) == (True, True, "process")
        assert await allowed(limits) == 60
        server.start()
        assert limits.alone
        ticks[0] += 6.0
        charge = await limits.charge_forecasts(VIEWER, "a")
        assert (charge.alone, charge.remaining) == (False, 59)
    finally:
        await limits.close()


async def test_the_door_counts_forecasts_and_answers_with_what_is_left(
    api: Callable[..., httpx.AsyncClient], settings: ServingSettings, visitors: Any
) -> None:
    async with api() as client:
        for remaining in (59, 58):
            response = await client.get("/ai/predict", params={"symbol": "BTCUSDT"})
            assert response.headers["x-ratelimit-limit"] == "60"
            assert response.headers["x-ratelimit-remaining"] == str(remaining)
        statuses = [(await client.get("/ai/predict")).status_code for _ in range(59)]
        last = await client.get("/ai/predict")
        assert statuses.count(429) == 1
        assert (last.status_code, last.headers["retry-after"]) == (429, "60")
        assert last.json()["error"]["code"] == "rate_limited"
        assert (await client.get("/ai/models")).status_code == 503
        engine = await client.get("/ai/predict", headers=visitors.headers("service"))
        assert engine.headers["x-ratelimit-limit"] == "1200"
        assert load_serving_settings(home=settings.home).predict_per_minute == 60
