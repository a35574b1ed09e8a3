"""What the paired blocks of two models say: is the contender better, or worse, and when will that be known.

Two differences are watched, log loss and the return after costs, each in both directions: four e-processes of
`.sequential`. How they make one decision:

* **Better** (promotion) takes an e-value of 20 for the log loss: which model forecasts better is what makes a champion
  (`docs/judgement.md`), and a policy that mostly stays flat says nothing for years. It is refused while the returns
  are evidence of the contrary, an e-value of 20 for the contender earning less. A further condition can only make a
  promotion rarer, so the error of 5 % stays.
* **Worse** (rollback) takes 20 for the mean of the two e-values that the contender is worse. A mean of e-processes is
  one, whatever they have to do with each other, against the contender being worse in neither way. Either kind of harm
  alone is enough, at an e-value of 40.

The error is promised for differences whose mean, given all that came before, is not above 0 on average so far. Where
each difference is like the one before it, that is not so; `benchmarks/sequential_test.py` measures how much it matters,
and the autocorrelation stands beside the evidence.

An e-value counts from the block at which it was reached, also when it fell afterwards: the error is that of ever
reaching it.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.validation.sequential import (
    DECISIVE,
    BettingProcess,
    FloatArray,
    expected_observations,
    mean_interval,
)

_FEWEST_BLOCKS = 24
"""Too few to say how long it will take."""
_MILLISECONDS_PER_DAY = 86_400_000


class Evidence(BaseModel):
    """What one kind of difference says; a difference above 0 speaks for the contender. Units are those of the kind."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    better: float = Field(ge=0, description="E-value that the contender is better, after the newest block")
    better_peak: float = Field(ge=0, description="The highest that it ever was")
    worse: float = Field(ge=0, description="E-value that the contender is worse")
    worse_peak: float = Field(ge=0, description="The highest that it ever was")
    mean: float | None = Field(description="Mean difference per block; None before the first")
    lower_95: float = Field(description="Confidence sequence of the mean: valid at all times together")
    upper_95: float


class SequentialVerdict(BaseModel):
    """What the blocks so far say of a contender and the model it is compared with."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    blocks: int
    days: float = Field(ge=0, description="From the first decision to the last settlement, market time")
    log_loss: Evidence = Field(description="Nats per block, reference less contender")
    pnl: Evidence = Field(description="Return per block after costs, contender less reference")
    worse: float = Field(ge=0, description="E-value that the contender is worse, both kinds together")
    worse_peak: float = Field(ge=0, description="The highest that it ever was")
    autocorrelation: float | None = Field(
        description="Of each difference of log loss with the one before it; None where there are too few blocks to tell"
    )
    expected_days: float | None = Field(
        description="Days from the first block on until either is known, if the log loss goes on as so far; None where "
        "that is not in sight, or there are too few blocks to tell"
    )

    @property
    def is_better(self) -> bool:
        """Whether a contender that passed its gates is promoted."""
        return self.log_loss.better_peak >= DECISIVE and self.pnl.worse_peak < DECISIVE

    @property
    def is_worse(self) -> bool:
        """Whether a contender that is champion is rolled back."""
        return self.worse_peak >= DECISIVE

    def figures(self) -> dict[str, float | int | None]:
        """The figures behind a decision, as the audit log keeps them."""
        return {
            "blocks": self.blocks,
            "days": round(self.days, 2),
            "e_better_log_loss": self.log_loss.better_peak,
            "e_worse_log_loss": self.log_loss.worse_peak,
            "e_worse_pnl": self.pnl.worse_peak,
            "e_worse": self.worse_peak,
            "log_loss_gain": self.log_loss.mean,
            "log_loss_gain_lower_95": self.log_loss.lower_95,
            "log_loss_gain_upper_95": self.log_loss.upper_95,
            "pnl_gain": self.pnl.mean,
        }


@dataclass(frozen=True, slots=True)
class EvidencePaths:
    """The e-values after every block, float64 (blocks,) each; of both directions and both kinds, and of their mean."""

    log_loss_better: FloatArray
    log_loss_worse: FloatArray
    pnl_better: FloatArray
    pnl_worse: FloatArray

    @property
    def worse(self) -> FloatArray:
        """E-values that the contender is worse, both kinds together."""
        return np.asarray((self.log_loss_worse + self.pnl_worse) / 2.0)


def evidence_paths(blocks: pl.DataFrame, log_loss_bound: float, pnl_bound: float) -> EvidencePaths:
    """The evidence after every block, as if somebody had looked after each.

    Args:
        blocks: Columns of `PAIRED_BLOCKS`, in order of time.
        log_loss_bound: No difference of log loss is larger, nats.
        pnl_bound: No difference of returns is larger, fraction.

    Raises:
        DataQualityError: a difference is beyond its bound.
    """
    log_loss, pnl = _differences(blocks)
    return EvidencePaths(
        log_loss_better=_path(log_loss, log_loss_bound),
        log_loss_worse=_path(-log_loss, log_loss_bound),
        pnl_better=_path(pnl, pnl_bound),
        pnl_worse=_path(-pnl, pnl_bound),
    )


def weigh(blocks: pl.DataFrame, log_loss_bound: float, pnl_bound: float) -> SequentialVerdict:
    """What all blocks so far say; arguments and errors as of `evidence_paths`."""
    paths = evidence_paths(blocks, log_loss_bound, pnl_bound)
    log_loss, pnl = _differences(blocks)
    days = 0.0 if blocks.is_empty() else _days(blocks)
    worse = paths.worse
    return SequentialVerdict(
        blocks=blocks.height,
        days=days,
        log_loss=_evidence(log_loss, log_loss_bound, paths.log_loss_better, paths.log_loss_worse),
        pnl=_evidence(pnl, pnl_bound, paths.pnl_better, paths.pnl_worse),
        worse=_newest(worse),
        worse_peak=_peak(worse),
        autocorrelation=_autocorrelation(log_loss),
        expected_days=_expected_days(log_loss, log_loss_bound, days),
    )


def _differences(blocks: pl.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Of log loss and of returns, above 0 where the contender is better; float64 (blocks,) each."""
    columns = {name: blocks[name].to_numpy() for name in blocks.columns if name.endswith(("_log_loss", "_pnl"))}
    return (
        columns["reference_log_loss"] - columns["contender_log_loss"],
        columns["contender_pnl"] - columns["reference_pnl"],
    )


def _path(differences: FloatArray, bound: float) -> FloatArray:
    return BettingProcess.begin(bound).after(differences)[1]


def _evidence(differences: FloatArray, bound: float, better: FloatArray, worse: FloatArray) -> Evidence:
    lower, upper = mean_interval(differences, bound)
    return Evidence(
        better=_newest(better),
        better_peak=_peak(better),
        worse=_newest(worse),
        worse_peak=_peak(worse),
        mean=float(differences.mean()) if differences.size else None,
        lower_95=lower,
        upper_95=upper,
    )


def _newest(path: FloatArray) -> float:
    return float(path[-1]) if path.size else 1.0


def _peak(path: FloatArray) -> float:
    return float(path.max(initial=1.0))


def _days(blocks: pl.DataFrame) -> float:
    decided, settled = (blocks[name].dt.epoch("ms") for name in ("decided_at", "settled_at"))
    return float(settled.to_numpy().max() - decided.to_numpy().min()) / _MILLISECONDS_PER_DAY


def _autocorrelation(differences: FloatArray) -> float | None:
    if differences.size < _FEWEST_BLOCKS or float(np.ptp(differences)) == 0.0:
        return None
    residuals = differences - differences.mean()
    return float(residuals[1:] @ residuals[:-1] / (residuals @ residuals))


def _expected_days(differences: FloatArray, bound: float, days: float) -> float | None:
    if differences.size < _FEWEST_BLOCKS:
        return None
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    # Evidence against the contender is halved by a return that says nothing.
    decisive = DECISIVE if mean > 0.0 else 2.0 * DECISIVE
    blocks = expected_observations(math.fabs(mean), deviation, bound, decisive)
    return None if blocks is None else blocks * days / differences.size
