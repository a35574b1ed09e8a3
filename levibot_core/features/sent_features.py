"""Features of candles that a caller sent, with what he left out taken from the home's lake.

Whether the candles can be used is decided in `sent_candles`; what is computed from them, in `on_demand`.
"""

import polars as pl

from levibot_core.errors import UnusableCandlesError
from levibot_core.features.on_demand import ComputedFeatures, WantedFeatures, features_of
from levibot_core.features.sent_candles import CANDLE_COLUMNS, sent_fear_greed, sent_funding, usable_candles
from levibot_core.features.sent_market import SentMarket
from levibot_core.market.symbols import LEADER
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import candles_dataset, fear_greed_dataset, funding_dataset

# Funding settles every few hours and the index is of a day: this much history holds all that a row may need of them.
_PUBLISHED_HISTORY_MS = 14 * MILLISECONDS_PER_DAY


def features_of_sent(
    wanted: WantedFeatures, sent: SentMarket, lake: Lake, market: str, now_ms: int
) -> ComputedFeatures:
    """Compute what a model wants to see at the newest sent candle.

    Raises:
        UnusableCandlesError: the candles are too few, not successive, not closed or impossible; the cause is named.
        MissingFeatureError: a feature is not defined on them.
        LakeCorruptionError: a file of the lake cannot be read.
    """
    candles = usable_candles(wanted.symbol, sent.candles, wanted.timeframe, wanted.bars_needed, now_ms)
    newest_ms = int(sent.candles[-1][0])
    if wanted.needs_leader:
        candles = candles.vstack(_leader_candles(wanted, sent, lake, market, newest_ms, now_ms))
    funding, fear_greed = _published(wanted, sent, lake, newest_ms)
    return features_of(wanted, candles, funding, fear_greed, newest_ms, sent.source_kind)


def _leader_candles(
    wanted: WantedFeatures, sent: SentMarket, lake: Lake, market: str, newest_ms: int, now_ms: int
) -> pl.DataFrame:
    needed, timeframe = wanted.bars_needed, wanted.timeframe
    if sent.leader_candles:
        until = [row for row in sent.leader_candles if row[0] <= newest_ms]
        return usable_candles(LEADER, until, timeframe, needed, now_ms)
    first_ms = newest_ms - (needed - 1) * timeframe.milliseconds
    dataset = candles_dataset(_source_key(lake), market, timeframe.name)
    found = lake.read(dataset, [LEADER], first_ms, newest_ms + 1).select(CANDLE_COLUMNS)
    if found.height < needed:
        raise UnusableCandlesError(
            f"Candles of {LEADER}: expected {needed} beside those of {wanted.symbol}, at the same times, as the model "
            f"looks at the leading market, was {found.height} in the home. Send them as leader_candles.",
            "too_few",
            needed,
        )
    return found


def _published(
    wanted: WantedFeatures, sent: SentMarket, lake: Lake, newest_ms: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Funding, and the fear and greed index."""
    step, key = wanted.timeframe.milliseconds, _source_key(lake)
    interval = (newest_ms - wanted.bars_needed * step - _PUBLISHED_HISTORY_MS, newest_ms + step + 1)
    if sent.funding:
        funding = sent_funding(wanted.symbol, sent.funding)
    else:
        funding = lake.read_all_revisions(funding_dataset(key), [wanted.symbol], *interval)
    if sent.fear_greed:
        return funding, sent_fear_greed(sent.fear_greed)
    return funding, lake.read_all_revisions(fear_greed_dataset(key), None, *interval)


def _source_key(lake: Lake) -> str:
    """The source that the lake was last filled from; the name of none where it never was."""
    source = lake.current_source()
    return "none" if source is None else source.key
