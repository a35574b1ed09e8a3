"""Features that are computed for a forecast: from candles of the request, or from the lake when the store has none.

The kernel is `levibot_core.features.on_demand`'s, which is the batch's. It runs in a thread, one computation at a time,
and what the lake gave is remembered for a while: a store that is down must not make every request read the lake.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi.concurrency import run_in_threadpool

from levibot_core.errors import LevibotError
from levibot_core.features.sent_market import SentMarket
from levibot_core.models.uncertainty import VOLATILITY_FEATURE
from levibot_core.stores.lake import Lake
from levibot_serving.config import ServingSettings
from levibot_serving.contract_forecasts import AskedForecast, Candle
from levibot_serving.features import NewestFeatures
from levibot_serving.served import ServedModel

if TYPE_CHECKING:
    # Brings the compiled kernels, which a forecast from the online store does without.
    from levibot_core.features.on_demand import ComputedFeatures, WantedFeatures

REQUEST = "request"
"""Kind of market of candles whose sender did not say where they come from; never tradable."""
_REMEMBERED_S = 5.0


@dataclass(frozen=True, slots=True)
class _Remembered:
    until: float
    found: NewestFeatures | LevibotError


class RecentFeatures:
    """The computations of one worker."""

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self._lake = Lake(settings.folders.lake)
        self._one_at_a_time = asyncio.Lock()
        self._remembered: dict[tuple[str, str], _Remembered] = {}

    async def from_lake(self, served: ServedModel, symbol: str) -> NewestFeatures:
        """The features of the newest candles in the home's lake.

        Raises:
            LevibotError: there are none, or they cannot be computed; the message says why.
        """
        key = (symbol, served.record.key)
        async with self._one_at_a_time:
            remembered = self._remembered.get(key)
            if remembered is None or time.monotonic() >= remembered.until:
                found = await run_in_threadpool(self._outcome, served, symbol)
                remembered = _Remembered(time.monotonic() + _REMEMBERED_S, found)
                self._remembered = {
                    **{known: kept for known, kept in self._remembered.items() if time.monotonic() < kept.until},
                    key: remembered,
                }
        if isinstance(remembered.found, LevibotError):
            raise remembered.found
        return remembered.found

    async def from_candles(self, served: ServedModel, symbol: str, sent: SentMarket, now_ms: int) -> NewestFeatures:
        """The features of candles that came with a request.

        Raises:
            UnusableCandlesError: they are too few, not successive, not closed or impossible; the cause is named.
            MissingFeatureError: a feature is not defined on them.
        """
        async with self._one_at_a_time:
            return await run_in_threadpool(self._compute_sent, served, symbol, sent, now_ms)

    def _outcome(self, served: ServedModel, symbol: str) -> NewestFeatures | LevibotError:
        from levibot_core.features.on_demand import newest_from_lake

        try:
            return _newest(newest_from_lake(wanted_by(served, symbol), self._lake, self._settings.market))
        except LevibotError as error:
            return error

    def _compute_sent(self, served: ServedModel, symbol: str, sent: SentMarket, now_ms: int) -> NewestFeatures:
        from levibot_core.features.sent_features import features_of_sent

        wanted = wanted_by(served, symbol)
        return _newest(features_of_sent(wanted, sent, self._lake, self._settings.market, now_ms))


def sent_market(candles: Sequence[Candle], leader_candles: Sequence[Candle], asked: AskedForecast) -> SentMarket:
    """What came with a request."""
    return SentMarket(candles, leader_candles, asked.funding, asked.fear_greed, asked.candles_source or REQUEST)


def wanted_by(served: ServedModel, symbol: str) -> "WantedFeatures":
    """What a served model wants to see of a symbol; reading the registry of features takes a while the first time.

    Raises:
        LevibotError: this version of the platform does not know the model's features.
    """
    from levibot_core.features.on_demand import WantedFeatures
    from levibot_core.market.timeframe import Timeframe

    manifest, head = served.bundle.manifest, served.uncertainty.head
    also = (VOLATILITY_FEATURE, *(head.settings.features if head is not None else ()))
    timeframe = Timeframe.parse(manifest.timeframe)
    return WantedFeatures.of(symbol, manifest.features, also, manifest.feature_set, timeframe, manifest.window)


def _newest(computed: "ComputedFeatures") -> NewestFeatures:
    return NewestFeatures(computed.vector, computed.bars)
