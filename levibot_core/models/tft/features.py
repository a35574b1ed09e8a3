"""Which features the Temporal Fusion Transformer looks at."""

from collections.abc import Sequence
from typing import Final

from levibot_core.errors import ConfigurationError

TFT_FEATURES: Final = (
    # How far prices came, over an hour's parts up to a day: what a window of 60 bars cannot show, and what it can in
    # the unit it is asked in.
    "log_return_1",
    "log_return_3",
    "log_return_12",
    "log_return_48",
    "log_return_288",
    # How wildly they move: the scale of everything that follows.
    "realized_volatility_12",
    "realized_volatility_48",
    "realized_volatility_288",
    # Where the price stands: against its means, in its band, in its range, in its bar.
    "sma_gap_20",
    "sma_gap_200",
    "rsi_14",
    "bollinger_position_20",
    "range_position_288",
    "close_location",
    # How much is traded.
    "volume_zscore_50",
    # What the leading market just did.
    "leader_return_1",
    "leader_return_12",
    # What positions cost, and the mood of the day.
    "funding_rate_last",
    "fear_greed",
    # When it is: volatility and volume follow the hours of the markets.
    "time_of_day_sin",
    "time_of_day_cos",
)
"""In the order of the network's inputs.

One of each kind, free of the price scale and without a trend, so that what was learnt on one symbol and year holds for
others. Every feature costs a network of its own, so the 245 of feature set v2 would train twelve times as long.
"""
VOLATILITY_FEATURES: Final = ("realized_volatility_288", "realized_volatility_48", "realized_volatility_12")
"""The volatility per bar that targets are divided by: the first that there is. A day has no hour of its own."""


def tft_features(available: Sequence[str]) -> tuple[str, ...]:
    """Those of `TFT_FEATURES` that there are, in that order.

    Raises:
        ConfigurationError: none of them is a volatility, which the target needs.
    """
    found = tuple(name for name in TFT_FEATURES if name in available)
    volatility_feature(found)
    return found


def volatility_feature(features: Sequence[str]) -> str:
    """The volatility that targets are divided by: the first of `VOLATILITY_FEATURES` among `features`.

    Raises:
        ConfigurationError: there is none.
    """
    for name in VOLATILITY_FEATURES:
        if name in features:
            return name
    raise ConfigurationError(
        f"Expected one of {', '.join(VOLATILITY_FEATURES)} among the features of the transformer, was none. "
        "Its target is a return in units of volatility: take a feature set that has one, such as v2."
    )
