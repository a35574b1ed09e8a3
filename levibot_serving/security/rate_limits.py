"""How often somebody may ask: forecasts per user and address, sign-ins per address and name.

Counted in this process, or in Redis where there is one, so that replicas count together. Without an answer of Redis
each process counts for itself for a while, and its responses say so: a limit is no reason to be out of order.
"""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from levibot_core.security.roles import Principal, Role
from levibot_serving.errors import ApiError
from levibot_serving.security.addresses import household
from levibot_serving.security.counters import Counters
from levibot_serving.security.settings import SecuritySettings

RawHeaders = Sequence[tuple[bytes, bytes]]

logger = logging.getLogger(__name__)

NAMES_PER_ADDRESS: Final = 3
"""A name may be tried from several addresses this many times as often as an address may try."""
_REFRESHES_PER_MINUTE: Final = 60
_MINUTE: Final = 60
_REDIS_SECONDS: Final = 0.1
_AWAY_SECONDS: Final = 5.0
_PREFIX: Final = "levibot-limits"


@dataclass(frozen=True, slots=True)
class Charge:
    """What became of one request to be counted.

    Attributes:
        allowed: Whether it was within the budget; if not, it was not counted.
        limit: The budget per minute.
        remaining: What is left of it.
        reset_s: Seconds until some of it is free again.
        alone: Whether this process counted for itself although it should share: Redis does not answer.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_s: float
    alone: bool

    def headers(self) -> dict[str, str]:
        """What the response says about it."""
        found = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(math.ceil(self.reset_s)),
        }
        if self.alone:
            found["X-RateLimit-Scope"] = "process"
        return found

    def raw_headers(self) -> RawHeaders:
        """The same for the message of a response."""
        return tuple((name.lower().encode(), value.encode()) for name, value in self.headers().items())

    def refusal(self, asked: int = 1) -> ApiError:
        """The error of a charge that was not allowed."""
        if asked > self.limit:
            message = f"Expected at most {self.limit} forecasts at once, as many as a minute allows, was {asked}."
            return ApiError(400, "larger_than_budget", message, headers=self.headers())
        wait_s = math.floor(self.reset_s) + 1
        message = f"Expected at most {self.limit} a minute. Try again in {wait_s} s."
        return ApiError(429, "rate_limited", message, headers={**self.headers(), "Retry-After": str(wait_s)})


class RateLimits:
    """The budgets of one application. For its event loop."""

    def __init__(
        self,
        settings: SecuritySettings,
        redis_address: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to nothing yet."""
        self._clock = clock
        self._forecasts = RateLimitItemPerMinute(settings.predict_per_minute, namespace="forecasts")
        self._engine_forecasts = RateLimitItemPerMinute(settings.engine_predict_per_minute, namespace="forecasts")
        attempts = settings.login_attempts_per_minute
        self._sign_ins = RateLimitItemPerMinute(attempts, namespace="sign-ins")
        self._sign_ins_of_name = RateLimitItemPerMinute(NAMES_PER_ADDRESS * attempts, namespace="sign-ins-of")
        self._refreshes = RateLimitItemPerMinute(_REFRESHES_PER_MINUTE, namespace="refreshes")
        self._counters = Counters()
        self._away_until = 0.0
        self._pool: ConnectionPool | None = None
        self._shared: SlidingWindowCounterRateLimiter | None = None
        # The online store refuses an address that cannot be used, in clear words, when the application starts.
        with suppress(ValueError):
            if redis_address is not None:
                self._pool = ConnectionPool.from_url(
                    redis_address, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS
                )
                self._shared = SlidingWindowCounterRateLimiter(_storage(self._pool))

    @property
    def alone(self) -> bool:
        """Whether limits should be shared and are not: Redis did not answer lately."""
        return self._shared is not None and self._clock() < self._away_until

    async def charge_forecasts(self, principal: Principal, address: str, forecasts: int = 1) -> Charge:
        """Count forecasts for a user at an address; engines have a budget of their own."""
        budget = self._engine_forecasts if principal.role is Role.SERVICE else self._forecasts
        return await self._charge(budget, forecasts, principal.name, household(address))

    async def charge_sign_in(self, name: str, address: str) -> Charge:
        """Count an attempt to sign in, for its address and for the name."""
        charge = await self._charge(self._sign_ins, 1, household(address))
        # A password typed into the wrong field does not become a key of Redis.
        hidden = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return await self._charge(self._sign_ins_of_name, 1, hidden) if charge.allowed else charge

    async def charge_refresh(self, address: str) -> Charge:
        """Count an attempt to refresh tokens."""
        return await self._charge(self._refreshes, 1, household(address))

    async def close(self) -> None:
        """Leave Redis."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _charge(self, budget: RateLimitItemPerMinute, cost: int, *identity: str) -> Charge:
        if self._shared is not None and not self.alone:
            try:
                async with asyncio.timeout(2 * _REDIS_SECONDS):
                    allowed = await self._shared.hit(budget, *identity, cost=cost)
                    stats = await self._shared.get_window_stats(budget, *identity)
                reset_s = max(0.0, stats.reset_time - time.time())
                return Charge(allowed, budget.amount, max(0, stats.remaining), reset_s, alone=False)
            except (RedisError, OSError, TimeoutError) as error:
                self._away_until = self._clock() + _AWAY_SECONDS
                logger.warning("Redis does not answer (%s): each process counts its own limits.", type(error).__name__)
        taken = self._counters.take(budget.namespace + "/".join(identity), budget.amount, _MINUTE, cost)
        return Charge(taken.allowed, budget.amount, taken.remaining, taken.reset_s, self._shared is not None)


def _storage(pool: ConnectionPool) -> RedisStorage:
    # The library declares plain values as options; a pool is what it documents.
    return RedisStorage(
        "async+redis://",
        implementation="redispy",
        connection_pool=pool,  # type: ignore[arg-type]
        key_prefix=_PREFIX,
    )
