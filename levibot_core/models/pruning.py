"""When a trial is given up: the median rule, on validation log losses.

Optuna prunes no trials of studies with several objectives, so the rule is kept here and the curves in the study.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

ROUNDS_PER_POINT = 10
"""A curve has the lowest loss so far after every so many rounds."""
_TRIALS_BEFORE_PRUNING = 5


@dataclass(frozen=True, slots=True)
class MedianRule:
    """Gives up a trial whose lowest loss is above the median of what completed trials had reached by the same round.

    After D. Golovin et al., "Google Vizier: a service for black-box optimization" (2017), section 3.2.2, with the
    lowest loss so far in place of the running average. A trial that had stopped by then stays at its lowest loss.

    Attributes:
        curves: Of each completed trial: its lowest loss after every `ROUNDS_PER_POINT` rounds.
        warm_up_rounds: Slow learners look bad early on: nothing is given up before.
    """

    curves: Sequence[Sequence[float]]
    warm_up_rounds: int

    def keeps(self, curve: Sequence[float]) -> bool:
        """Whether a trial with this curve up to now should go on."""
        usable = [other for other in self.curves if other]
        if len(usable) < _TRIALS_BEFORE_PRUNING or len(curve) * ROUNDS_PER_POINT <= self.warm_up_rounds:
            return True
        place = len(curve) - 1
        return curve[-1] <= median(other[min(place, len(other) - 1)] for other in usable)
