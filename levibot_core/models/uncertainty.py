"""What a bundle can say beside its probability: volatility, an interval of the return, one of the probability, novelty.

The interval of the probability comes from a Venn-Abers calibrator, the others from optional parts of the bundle. Slim,
as serving needs it; what each part is, is in `.volatility`, `.conformal`, `.novelty` and `.venn_abers`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from levibot_core.errors import BundleError
from levibot_core.models.calibration import Calibrator
from levibot_core.models.conformal import INTERVAL, ReturnInterval, read_interval
from levibot_core.models.novelty import NOVELTY, NoveltyReference, read_novelty
from levibot_core.models.predictors import assemble_row, text_of
from levibot_core.models.venn_abers import VennAbersCalibrator
from levibot_core.models.volatility import (
    VOLATILITY_BOOSTER,
    VOLATILITY_SETTINGS,
    VolatilityHead,
    read_volatility,
)

VOLATILITY_FEATURE: Final = "realized_volatility_48"
"""Log ratio per bar; times the root of the horizon it stands in where a model has no volatility head."""


@dataclass(frozen=True, slots=True)
class UncertaintyParts:
    """The optional parts of a bundle, read. A bundle may have the head alone; an interval needs its scale."""

    head: VolatilityHead | None = None
    interval: ReturnInterval | None = None
    novelty: NoveltyReference | None = None


@dataclass(frozen=True, slots=True)
class ReturnOutlook:
    """What is expected of the return over the horizon.

    Attributes:
        volatility: Root of the expected variance of the log return, a fraction above 0.
        level: Share of returns that lie between the limits, in the long run; None without an interval.
        lower: Lower limit of the return, a fraction above -1; None without an interval.
        upper: Upper limit of the return, a fraction; None without an interval.
    """

    volatility: float
    level: float | None
    lower: float | None
    upper: float | None


def read_uncertainty(parts: Mapping[str, bytes], horizon_bars: int, features: int | None = None) -> UncertaintyParts:
    """Read the optional parts of a bundle; none at all is fine.

    Args:
        parts: Name to content, as the bundle has them; other names are ignored.
        horizon_bars: The bundle's horizon.
        features: How many features the model has; None leaves out what tells how novel a row is.

    Raises:
        BundleError: a part is altered, lacks the one it needs, or is of another horizon.
    """
    novelty = None if features is None or NOVELTY not in parts else read_novelty(parts[NOVELTY], features)
    texts = {name: text_of(parts, name) for name in _KNOWN if name in parts}
    absent = [name for name in (VOLATILITY_BOOSTER, VOLATILITY_SETTINGS) if name not in texts]
    if texts and absent:
        raise BundleError(
            f"Expected {' and '.join(absent)} beside {', '.join(sorted(texts))}, was without. Train the model again."
        )
    if not texts:
        return UncertaintyParts(novelty=novelty)
    head = read_volatility(texts[VOLATILITY_BOOSTER], texts[VOLATILITY_SETTINGS])
    if head.settings.horizon_bars != horizon_bars:
        raise BundleError(
            f"Expected a volatility head for {horizon_bars} bars, was for {head.settings.horizon_bars}. "
            "Train the model again."
        )
    return UncertaintyParts(head, read_interval(texts[INTERVAL]) if INTERVAL in texts else None, novelty)


def return_outlook(
    parts: UncertaintyParts, symbol: str, values: Mapping[str, float], symbols: Sequence[str]
) -> ReturnOutlook | None:
    """Forecast the spread of the return; None for a bundle without a volatility head.

    Args:
        parts: What the bundle has.
        symbol: Inside spelling.
        values: Feature name to value; more than needed are welcome.
        symbols: The symbols the model knows; a symbol's code is its place here.

    Raises:
        UnknownSymbolError: the symbol is not among `symbols`.
        MissingFeatureError: a feature that the head needs is absent, NaN or infinite.
    """
    if parts.head is None:
        return None
    volatility = parts.head.predict(assemble_row(symbol, values, parts.head.settings.features, symbols))
    if parts.interval is None:
        return ReturnOutlook(float(volatility[0]), None, None, None)
    lower, upper = parts.interval.apply(volatility)
    return ReturnOutlook(float(volatility[0]), parts.interval.level, float(lower[0]), float(upper[0]))


def probability_interval(calibrator: Calibrator, raw: np.ndarray) -> tuple[float, float] | None:
    """p0 and p1 of one raw score, (1,); None for a calibrator other than Venn-Abers."""
    if not isinstance(calibrator, VennAbersCalibrator):
        return None
    lower, upper = calibrator.interval(raw)
    return float(lower[0]), float(upper[0])


_KNOWN = (VOLATILITY_BOOSTER, VOLATILITY_SETTINGS, INTERVAL)
