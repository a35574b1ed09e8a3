"""What came with a request for a forecast. Plain values, without data frames and kernels."""

from collections.abc import Sequence
from dataclasses import dataclass

CandleRow = tuple[int, float | None, float | None, float | None, float | None, float | None]
"""Open time (UTC milliseconds), open, high, low, close, volume, as exchanges and ccxt give it; None is no number."""


@dataclass(frozen=True, slots=True)
class SentMarket:
    """What came with a request.

    Attributes:
        candles: The symbol's, oldest first; see `sent_candles`.
        leader_candles: The leading market's; the lake's where there are none and something wanted looks at them.
        funding: Settlement (UTC milliseconds) and rate; the lake's where there is none.
        fear_greed: Start of the day (UTC milliseconds) and index; the lake's where there is none.
        source_kind: Kept in the vector.
    """

    candles: Sequence[CandleRow]
    leader_candles: Sequence[CandleRow]
    funding: Sequence[tuple[int, float]]
    fear_greed: Sequence[tuple[int, int]]
    source_kind: str
