"""The test that promotes and rolls back: how often it is wrong when looked at after every block, and how long it takes.

Nothing is measured against a peer. Where there is nothing to find, a year of hourly blocks is looked at after each:
at most one market in twenty may ever be decided. Where there is something, it is measured in how many days it is
found. One process, one thread.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from benchmarks.harness import Outcome
from benchmarks.report import RESULTS, Claim, Figure, Report, TitledTable, parse_options, publish, run
from benchmarks.sequential_markets import BEYOND, BLOCKS_PER_DAY, NULLS, Market, claims_too_much, knows_more
from benchmarks.sequential_plots import sequential_png
from levibot_core.stores.files import write_bytes_atomically
from levibot_core.validation.paired_blocks import LOG_LOSS_BOUND
from levibot_core.validation.sequential import (
    DECISIVE,
    BettingProcess,
    FloatArray,
    expected_observations,
)

MARKETS, QUICK_MARKETS = 1_000, 100
YEAR_BLOCKS = 365 * BLOCKS_PER_DAY
SEED = 20_261_121
GAINS = (0.05, 0.1, 0.15, 0.2, 0.3)
"""What a contender knows beyond the reference, in log-odds; 0.2 is an AUC of 0.556 instead of 0.5, alone."""
FACTORS = (1.5, 2.0, 3.0, 4.0, 6.0)
"""What the log-odds of a bad champion are multiplied by."""
_POWER_SHARE = 0.25
"""Share of the markets that an effect is measured on: it needs fewer than a rare error does."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the markets of one kind.

    Attributes:
        blocks: Until each was decided, float64 (markets,); infinite where it was not within a year.
        following: The same by bets that follow the data instead of constant ones.
        mean: Of all differences, nats.
        deviation: Of all differences, nats.
        decisive: The e-value that decided.
    """

    blocks: FloatArray
    following: FloatArray
    mean: float
    deviation: float
    decisive: float

    @property
    def share(self) -> float:
        """Share of markets ever decided."""
        return float(np.isfinite(self.blocks).mean())

    @property
    def upper_95(self) -> float:
        """The true share is below it with 95 %, one-sided confidence (Clopper and Pearson, 1934)."""
        decided, markets = int(np.isfinite(self.blocks).sum()), self.blocks.size
        return 1.0 if decided == markets else float(beta.ppf(0.95, decided + 1, markets - decided))

    def days(self, quantile: float) -> float:
        """Days by which that share of the markets was decided; infinite where it was not within a year."""
        return _quantile_days(self.blocks, quantile)

    @property
    def expected_days(self) -> float:
        """What `levibot models compare` would say, given the true mean and deviation; infinite where not in sight."""
        blocks = expected_observations(self.mean, self.deviation, LOG_LOSS_BOUND, self.decisive)
        return math.inf if blocks is None else blocks / BLOCKS_PER_DAY


def main() -> None:
    """Simulate and publish."""
    options = parse_options(__doc__, runs=MARKETS, runs_are="markets of each kind")
    markets = QUICK_MARKETS if options.quick else options.runs
    nulls = {name: simulate(market, markets) for name, market in {**NULLS, **BEYOND}.items()}
    fewer = max(20, round(markets * _POWER_SHARE))
    gains = {gain: simulate(knows_more(gain), fewer) for gain in GAINS}
    # A rollback takes the mean of two e-values: with returns that say nothing, twice the evidence in the log loss.
    harms = {factor: simulate(claims_too_much(factor), fewer, 2.0 * DECISIVE - 1.0) for factor in FACTORS}
    if not options.quick:
        write_bytes_atomically(RESULTS / "sequential_test.png", sequential_png(nulls, gains, harms))
    publish(
        Report(
            name="sequential_test",
            about=f"{markets:,} markets of each kind, looked at after every hour of a year: decided or not, and when",
            ours={name: _null_outcome(found) for name, found in nulls.items()},
            peers={},
            ratio={},
            claims=[
                Claim(
                    f"ever decided, {name}", nulls[name].upper_95, 1.0 / DECISIVE, at_least=False, unit="(upper 95 %)"
                )
                for name in NULLS
            ],
            figures=[Figure("decided", "of markets"), Figure("upper_95", "of markets"), Figure("markets", "")],
            tables=[
                TitledTable("Nothing to find: markets ever decided within a year", _null_rows(nulls)),
                TitledTable(
                    "A better challenger: promoted within 28 days and a year; days until then",
                    _effect_rows("log-odds it knows more", gains),
                ),
                TitledTable(
                    "A bad champion: rolled back within 28 days and a year; days until then",
                    _effect_rows("its log-odds times", harms),
                ),
            ],
        ),
        options,
    )


def simulate(market: Market, markets: int, decisive: float = DECISIVE) -> Found:
    """Look at a year of each market after every block."""
    random = np.random.default_rng(SEED)
    blocks, following, means, squares = (np.empty(markets) for _ in range(4))
    for place in range(markets):
        differences = market(random, YEAR_BLOCKS)
        blocks[place] = _first(BettingProcess.begin(LOG_LOSS_BOUND).after(differences)[1] >= decisive)
        following[place] = _first(following_bets(differences, LOG_LOSS_BOUND) >= decisive)
        means[place], squares[place] = differences.mean(), np.mean(differences**2)
    mean = float(means.mean())
    return Found(blocks, following, mean, math.sqrt(float(squares.mean()) - mean**2), decisive)


def following_bets(values: FloatArray, bound: float) -> FloatArray:
    """The wealth of a gambler whose bets follow mean and variance so far (aGRAPA of Waudby-Smith and Ramdas 2024)."""
    counts = np.arange(1, values.size + 1)
    means = np.concatenate([[0.0], np.cumsum(values) / (counts + 1)])[:-1]
    variances = np.concatenate([[0.0], np.cumsum(values**2)])[:-1] + (bound / 2.0) ** 2
    bets = np.clip(means / (variances / counts), 0.0, 0.9 / bound)
    return np.asarray(np.exp(np.minimum(np.cumsum(np.log1p(bets * values)), 700.0)))


def _first(decided: np.ndarray) -> float:
    return float(np.argmax(decided)) + 1.0 if bool(decided.any()) else math.inf


def _null_outcome(found: Found) -> Outcome:
    following = float(np.isfinite(found.following).mean())
    return {
        "decided": found.share,
        "upper_95": found.upper_95,
        "markets": found.blocks.size,
        "decided_by_following_bets": following,
    }


def _null_rows(nulls: Mapping[str, Found]) -> list[list[str]]:
    header = ["differences", "decided", "upper 95 %", "promised", "bets that follow"]
    return [
        header,
        *(
            [
                name,
                f"{found.share:.1%}",
                f"{found.upper_95:.1%}",
                "at most 5 %" if name in NULLS else "nothing",
                f"{float(np.isfinite(found.following).mean()):.1%}",
            ]
            for name, found in nulls.items()
        ),
    ]


def _effect_rows(what: str, effects: Mapping[float, Found]) -> list[list[str]]:
    header = [what, "nats", "28 days", "a year", "median", "9 of 10", "expected", "bets that follow"]
    return [
        header,
        *(
            [
                f"{size:g}",
                f"{found.mean:.4f}",
                f"{float(np.mean(found.blocks <= 28 * BLOCKS_PER_DAY)):.0%}",
                f"{found.share:.0%}",
                _in_days(found.days(0.5)),
                _in_days(found.days(0.9)),
                _in_days(found.expected_days),
                _in_days(_quantile_days(found.following, 0.5)),
            ]
            for size, found in effects.items()
        ),
    ]


def _quantile_days(blocks: FloatArray, quantile: float) -> float:
    return float(np.quantile(blocks, quantile, method="inverted_cdf")) / BLOCKS_PER_DAY


def _in_days(days: float) -> str:
    return f"{days:.0f}" if days <= 365.0 else "> 365"


if __name__ == "__main__":
    sys.exit(run(main))
