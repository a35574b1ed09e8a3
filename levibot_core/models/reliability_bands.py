"""How far the dots of a reliability curve may be off by chance, from the figures of a model card alone.

A card keeps counts and shares per bin, not rows, so the band is Wilson's; where the rows are at hand,
`levibot_core.models.metric_intervals` draws blocks of them again, which is better. Plain floats: serving imports this.
"""

import math
from collections.abc import Sequence

_NORMAL_97_5 = 1.959963984540054


def wilson_interval(share: float, observations: float) -> tuple[float, float]:
    """The 95 % score interval of a share, two-sided, within 0 and 1; all of it without observations.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    Args:
        share: Observed share, fraction.
        observations: Independent observations; need not be whole.
    """
    if observations <= 0.0:
        return 0.0, 1.0
    z2 = _NORMAL_97_5**2
    centre = (share * observations + z2 / 2.0) / (observations + z2)
    reach = _NORMAL_97_5 * math.sqrt(share * (1.0 - share) * observations + z2 / 4.0) / (observations + z2)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def reliability_bands(
    observed: Sequence[float], counts: Sequence[int], rows_per_observation: int
) -> list[tuple[float, float]]:
    """Per bin, the 95 % interval of the share that happened, fractions.

    Args:
        observed: Share of rises per bin.
        counts: Rows per bin.
        rows_per_observation: How many rows share their future and so count as one: the horizon in bars. Symbols move
            together as well, which is not counted, so the truth lies outside more often than 5 times in 100.
    """
    return [wilson_interval(share, count / rows_per_observation) for share, count in zip(observed, counts, strict=True)]
