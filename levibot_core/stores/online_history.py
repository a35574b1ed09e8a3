"""The newest vectors of one symbol as one matrix, for models that look at a window of bars instead of one.

What every backend keeps of a history: bars of one source and one list of names, oldest first, each as its times, its
close and its packed values. Which bars are kept is decided by the backends as `levibot_core.stores.online.OnlineStore`
promises; whether a history is long and whole enough for a model is decided there too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from levibot_core.errors import ConfigurationError, MissingFeatureError, OnlineStoreError
from levibot_core.stores.online_vector import FeatureNames, FeatureVector

if TYPE_CHECKING:
    import numpy as np

DEFAULT_HISTORY_BARS = 64
"""Bars that are kept of every symbol when nobody says otherwise: a model's window of 60, and some to spare."""


@dataclass(frozen=True, slots=True)
class FeatureHistory:
    """The vectors of successive puts of one symbol, oldest first; holes between bars are possible, and not hidden.

    Attributes:
        symbol: Inside spelling, BTC/USDT.
        feature_set: Version of the registry the values follow.
        source_kind: `exchange`, `recorded` or `simulated`.
        names: Names of the values of every bar, in their order.
        ts_ms: Open times, UTC milliseconds, rising.
        known_at_ms: Decision times, UTC milliseconds.
        closes: Close of each bar, quote currency.
        packed: Little-endian float64, the values of one bar after those of another.
    """

    symbol: str
    feature_set: str
    source_kind: str
    names: FeatureNames
    ts_ms: tuple[int, ...]
    known_at_ms: tuple[int, ...]
    closes: tuple[float, ...]
    packed: bytes = field(repr=False)

    @classmethod
    def of(
        cls,
        symbol: str,
        feature_set: str,
        source_kind: str,
        names: FeatureNames,
        bars: Sequence[tuple[int, int, float, bytes]],
        place: str,
    ) -> "FeatureHistory":
        """A history from the store at `place`; of each bar the open time, the decision time, the close and the values.

        Raises:
            OnlineStoreError: a bar does not have as many values as names.
        """
        size = 8 * len(names.names)
        if wrong := [ts_ms for ts_ms, _, _, packed in bars if len(packed) != size]:
            raise OnlineStoreError(
                f"Expected {len(names.names)} values in each bar of {symbol} in {place}, was another number at "
                f"{wrong[0]}. `levibot online warm-up` replaces them."
            )
        return cls(
            symbol,
            feature_set,
            source_kind,
            names,
            tuple(bar[0] for bar in bars),
            tuple(bar[1] for bar in bars),
            tuple(bar[2] for bar in bars),
            b"".join(bar[3] for bar in bars),
        )

    def __len__(self) -> int:
        return len(self.ts_ms)

    @property
    def newest(self) -> FeatureVector:
        """The vector of the last bar."""
        return next(self._backwards())

    @property
    def vectors(self) -> tuple[FeatureVector, ...]:
        """The vector of every bar, oldest first."""
        return tuple(self._backwards())[::-1]

    def matrix(self, names: Sequence[str]) -> "np.ndarray":
        """The values of these features, float64 (bars, len(names)), oldest bar first; the stored bits.

        Raises:
            MissingFeatureError: the bars are without some of the features.
        """
        import numpy as np  # The store itself is read without it.

        lacking = [name for name in names if name not in self.names.places]
        if lacking:
            raise MissingFeatureError(f"Expected features of {self.symbol}, was without {', '.join(lacking)}.")
        whole = np.frombuffer(self.packed, dtype="<f8").reshape(len(self), len(self.names.names))
        return np.ascontiguousarray(whole[:, [self.names.places[name] for name in names]])

    def first_hole_ms(self, bars: int, bar_ms: int) -> int | None:
        """Open time of the newest bar missing among the last `bars`, UTC milliseconds; None when they are whole.

        Args:
            bars: How many successive bars are wanted, up to and with the last.
            bar_ms: Length of a bar, milliseconds.
        """
        wanted = self.ts_ms[-1]
        for ts_ms in reversed(self.ts_ms[-bars:]):
            if ts_ms != wanted:
                return wanted
            wanted -= bar_ms
        return None if len(self) >= bars else wanted

    def _backwards(self) -> Iterator[FeatureVector]:
        size = 8 * len(self.names.names)
        for place in reversed(range(len(self))):
            values = self.names.unpack(self.packed[place * size : (place + 1) * size], self.symbol, "the history")
            yield FeatureVector(
                self.symbol,
                self.ts_ms[place],
                self.known_at_ms[place],
                self.feature_set,
                self.source_kind,
                self.closes[place],
                values,
            )


def check_history_bars(bars: int) -> int:
    """How many bars a store keeps of every symbol.

    Raises:
        ConfigurationError: there would be none.
    """
    if bars < 1:
        raise ConfigurationError(f"Expected an online history of at least 1 bar, was {bars}.")
    return bars
