"""What forecasts were worth: scores, intervals and returns after costs of every contestant on the same untouched rows.

Who forecast them and from what is `walk_forward`'s business; calibration and ensembles are `out_of_sample`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from benchmarks.harness import Outcome
from benchmarks.market import TIMEFRAME
from levibot_core.models.block_bootstrap import BlockBootstrap
from levibot_core.models.metric_intervals import metric_intervals
from levibot_core.models.metrics import classification_metrics, log_losses
from levibot_core.models.trial_returns import ROUND_TRIP_COST, PolicyRows, daily_returns, sharpe_per_day
from levibot_core.validation.deflated_sharpe import deflate

DAYS_PER_YEAR = 365
RESAMPLES = 300
MOST_CONFIDENT = (0.05, 0.01)
_FEWEST_CONFIDENCES = 100
_MEAN_OF_ABSOLUTE_NORMAL = (2.0 / np.pi) ** 0.5
Spread = dict[str, float | None]
"""`mean` over seeds, and `deviation` (ddof 1), which is None with one seed."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The rows that are scored, in order of time; arrays of shape (n,).

    Attributes:
        labels: 1 for a rise, else 0, float64.
        base_rates: Share of rises among what was known before the row's block.
        policy: The rows as a policy acts on them, with the moves expected by what was known before the block.
        horizon: Bars ahead.
    """

    labels: np.ndarray
    base_rates: np.ndarray
    policy: PolicyRows
    horizon: int

    @classmethod
    def of(cls, rows: pl.DataFrame, horizon: int) -> "Outlook":
        """Of rows with symbol, known_at, label_end, label, forward_return, expected_move and base_rate."""
        return cls(
            rows["label"].cast(pl.Float64).to_numpy(),
            rows["base_rate"].to_numpy(),
            policy_rows_of(rows),
            horizon,
        )

    def bootstrap(self) -> BlockBootstrap:
        """Draws of these rows in blocks of days."""
        return BlockBootstrap(self.policy.decided_ms, self.horizon * TIMEFRAME.milliseconds, 0, RESAMPLES)


def policy_rows_of(rows: pl.DataFrame) -> PolicyRows:
    """Rows with symbol, known_at, label_end, forward_return and expected_move as a policy acts on them."""
    return PolicyRows(
        symbols=rows["symbol"].rank("dense").cast(pl.Int64).to_numpy(),
        decided_ms=rows["known_at"].dt.epoch("ms").to_numpy(),
        settled_ms=rows["label_end"].dt.epoch("ms").to_numpy(),
        forward_returns=rows["forward_return"].to_numpy(),
        expected_moves=rows["expected_move"].to_numpy(),
    )


def score_all(forecasts: Mapping[str, Sequence[np.ndarray]], outlook: Outlook) -> dict[str, Outcome]:
    """Scores of every contestant: per figure the spread over its seeds, and intervals of 95 % from blocks of days.

    The log loss beside that of the base rate and of a half is the mean over seeds, row by row; the other intervals are
    the first seed's.

    Args:
        forecasts: Name to probabilities of a rise, (n,) per seed.
        outlook: The rows.
    """
    acted = {name: [daily_returns(p, outlook.policy) for p in by_seed] for name, by_seed in forecasts.items()}
    trials = np.array([returns for by_seed in acted.values() for returns in by_seed])
    bootstrap = outlook.bootstrap()
    found: dict[str, Outcome] = {}
    for name, by_seed in forecasts.items():
        figures = [
            {**quality(p, outlook), **money(p, returns, trials, outlook)}
            for p, returns in zip(by_seed, acted[name], strict=True)
        ]
        found[name] = {
            **{figure: spread([each[figure] for each in figures]) for figure in figures[0]},
            **intervals(by_seed, outlook, bootstrap),
            "seeds": len(by_seed),
        }
    return found


def quality(p: np.ndarray, outlook: Outlook) -> dict[str, float | None]:
    """Scores of one set of forecasts, without intervals; `level` is the mean forecast less the share of rises."""
    y = outlook.labels
    scores = classification_metrics(p, y)
    confidence = np.abs(p - 0.5)
    # A forecaster of a few values has no most confident rows.
    ranks = np.argsort(-confidence, kind="stable") if np.unique(confidence).size >= _FEWEST_CONFIDENCES else None
    right = (p > 0.5) == (y == 1.0)
    return {
        **{name: scores[name] for name in ("auc", "log_loss", "ece")},
        "level": float(p.mean() - y.mean()),
        "accuracy": float(right.mean()),
        "against_base_rate_e4": scores["log_loss"] * 1e4 - float(log_losses(outlook.base_rates, y).mean()) * 1e4,
        "rank_ic": float(spearmanr(p, outlook.policy.forward_returns).statistic) if np.ptp(p) > 0 else 0.0,
        **{
            f"accuracy_of_most_confident_{share:.0%}": (
                None if ranks is None else float(right[ranks[: max(1, int(share * p.size))]].mean())
            )
            for share in MOST_CONFIDENT
        },
    }


def money(p: np.ndarray, returns: np.ndarray, trials: np.ndarray, outlook: Outlook) -> dict[str, float | None]:
    """Annual Sharpe ratios after costs: acting where the edge pays, deflated by all trials, and acting always.

    Args:
        p: Probabilities of a rise, (n,).
        returns: Daily ones of acting on them where the edge pays, (days,).
        trials: The same of everyone, every seed, (trials, days).
        outlook: The rows.
    """
    deflated = deflate(returns, trials)
    always = daily_returns(np.where(p > 0.5, 1.0, 0.0), _cheap(outlook.policy))
    return {
        "sharpe": sharpe_per_day(returns) * DAYS_PER_YEAR**0.5,
        "deflated_sharpe": deflated.deflated if deflated else None,
        "days_traded": float(np.count_nonzero(returns)),
        "return": float(returns.sum()),
        "sharpe_of_every_forecast": sharpe_per_day(always) * DAYS_PER_YEAR**0.5,
    }


def intervals(by_seed: Sequence[np.ndarray], outlook: Outlook, bootstrap: BlockBootstrap) -> Outcome:
    """Intervals of 95 %, and the calibration error without its bias."""
    y = outlook.labels
    base = log_losses(outlook.base_rates, y)
    losses = np.mean([log_losses(p, y) for p in by_seed], axis=0)
    against, against_half = bootstrap.mean(losses - base), bootstrap.mean(losses - np.log(2.0))
    found = metric_intervals(by_seed[0], y, bootstrap)
    return {
        "against_a_half_e4": against_half.value * 1e4,
        "against_a_half_lower_95_e4": against_half.lower_95 * 1e4,
        "against_a_half_upper_95_e4": against_half.upper_95 * 1e4,
        "against_base_rate_lower_95_e4": against.lower_95 * 1e4,
        "against_base_rate_upper_95_e4": against.upper_95 * 1e4,
        "auc_lower_95": found["auc"].lower_95,
        "auc_upper_95": found["auc"].upper_95,
        "ece_lower_95": found["ece"].lower_95,
        "ece_upper_95": found["ece"].upper_95,
        "ece_debiased": found["ece_debiased"].value,
    }


def facts(outlook: Outlook) -> Outcome:
    """What the rows alone say, and how large the calibration error of a forecaster without any is by chance.

    Who says the true share of rises every time is off by how far the share among these rows is from it: by
    `ece_by_chance` on average, and seldom (5 %) by more than `ece_by_chance_95`. Normal, with the deviation of the
    mean label over draws of blocks of days.
    """
    share = outlook.bootstrap().mean(outlook.labels)
    deviation = (share.upper_95 - share.lower_95) / (2.0 * 1.96)
    return {
        "rows": int(outlook.labels.size),
        "share_of_rises": share.value,
        "base_rate_log_loss": float(log_losses(outlook.base_rates, outlook.labels).mean()),
        "ece_by_chance": _MEAN_OF_ABSOLUTE_NORMAL * deviation,
        "ece_by_chance_95": 1.96 * deviation,
    }


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and deviation of a figure over the seeds that have it."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "deviation": float(np.std(known, ddof=1)) if len(known) > 1 else None,
    }


def _cheap(policy: PolicyRows) -> PolicyRows:
    """The same rows with moves that let every forecast pay beforehand; what it costs is taken off all the same."""
    moves = np.full(policy.symbols.size, 2.0 * ROUND_TRIP_COST)
    return PolicyRows(policy.symbols, policy.decided_ms, policy.settled_ms, policy.forward_returns, moves)
