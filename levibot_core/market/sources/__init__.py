"""Market data from an exchange, from recorded files or from the simulator, behind one interface.

`open_source` picks one by the settings. The interface is in `base`; each source is imported only when it is opened.
"""

import logging

from levibot_core.config import Settings
from levibot_core.errors import ConfigurationError, SourceUnreachableError
from levibot_core.market.sources.base import MarketSource, SourceIdentity
from levibot_core.market.timeframe import Timeframe

__all__ = ["MarketSource", "SourceIdentity", "open_source"]

_log = logging.getLogger(__name__)


def open_source(settings: Settings) -> MarketSource:
    """The market source that the settings ask for.

    `auto` takes the recorded data if `LEVIBOT_MARKET_DATA` is set, else the first exchange that answers within 3 s,
    else the simulated market. Which one it took is in `identity`; `identity.announcement` is the line to show.

    Raises:
        ConfigurationError: `recorded` without a folder, or an exchange nobody knows.
        MarketDataUnavailableError: the folder does not exist, holds no market data or holds a file that is broken.
        SourceUnreachableError: `exchange`, and none of the exchanges answered.
    """
    if settings.source == "exchange":
        return _exchange(settings)
    if settings.source == "recorded" or (settings.source == "auto" and settings.market_data is not None):
        return _recorded(settings)
    if settings.source == "auto":
        try:
            return _exchange(settings)
        except SourceUnreachableError as error:
            _log.warning("No exchange answered, taking the simulated market. %s", error)
    return _simulated(settings)


def _exchange(settings: Settings) -> MarketSource:
    from levibot_core.market.sources.exchange import open_exchange

    return open_exchange(settings.exchanges, settings.exchange_base_url)


def _recorded(settings: Settings) -> MarketSource:
    from levibot_core.market.sources.recorded import RecordedSource

    if settings.market_data is None:
        raise ConfigurationError(
            "LEVIBOT_SOURCE=recorded expected LEVIBOT_MARKET_DATA to name a folder of candle Parquet files, was not "
            "set. Set it, or choose LEVIBOT_SOURCE=exchange or LEVIBOT_SOURCE=simulated."
        )
    return RecordedSource(settings.market_data)


def _simulated(settings: Settings) -> MarketSource:
    from levibot_core.market.simulator import SimulationParameters
    from levibot_core.market.sources.simulated import SimulatedSource

    parameters = SimulationParameters(settings.seed, settings.simulated_edge)
    return SimulatedSource(parameters, Timeframe.parse(settings.timeframe))
