"""Critical values of the test behind the promotion gates, by simulation, beside those that were published.

A t statistic whose long-run variance has Bartlett weights over a share `b` of the sample converges to
`W(1) / sqrt(Q(b))` (N. M. Kiefer, T. J. Vogelsang, "A new asymptotic theory for heteroskedasticity-autocorrelation
robust tests", Econometric Theory 21, 2005), where `W` is a Brownian motion, `V` its bridge and

    Q(b) = (2 / b) * (integral of V(r)^2 over [0, 1] - integral of V(r) V(r + b) over [0, 1 - b])

Their table 1 gives critical values up to 99 % as a cubic in `b`. The gates need 99.9 %, which is not in it. `W(1)`
and the bridge are independent, so the quantile is solved for in `E[Phi(c * sqrt(Q(b)))]`: no draw of `W(1)` adds noise
to the tail. Nothing is measured against a peer; that the published cubics come out again is what is claimed.
"""

import sys
import time

import numpy as np
from numba import njit
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from benchmarks.harness import Outcome
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run
from levibot_core.models.metrics import CRITICAL_975, CRITICAL_999

REPLICATIONS, QUICK_REPLICATIONS = 200_000, 5_000
STEPS = 1_000
SHARES = np.arange(1, 51) / 50.0
"""Of the sample, as published: 0.02, 0.04, ..., 1."""
SEED = 2005
PUBLISHED = {0.975: CRITICAL_975, 0.99: (2.3263, 4.1618, 0.5368, -0.9060)}
USED = {**PUBLISHED, 0.999: CRITICAL_999}
_BATCH = 1_000


def main() -> None:
    """Simulate, fit and publish."""
    options = parse_options(__doc__, runs=REPLICATIONS, runs_are="replications")
    replications = QUICK_REPLICATIONS if options.quick else options.runs
    started = time.perf_counter()
    roots = np.sqrt(long_run_variances(replications))
    ours: dict[str, Outcome] = {}
    for level, used in USED.items():
        quantiles = np.array([quantile(level, roots[:, place]) for place in range(SHARES.size)])
        fitted = fit_cubic(level, quantiles)
        ours[f"{level:.1%}"] = {
            "coefficients": [round(value, 4) for value in fitted],
            "published" if level in PUBLISHED else "in_use": list(used),
            "at_0.02": float(quantiles[0]),
            "at_0.5": float(quantiles[24]),
            "at_1": float(quantiles[-1]),
            "cubic_off_by": _largest(cubic(fitted) / quantiles - 1.0),
            "differs_by": _largest(cubic(used) / cubic(fitted) - 1.0),
            "seconds": round(time.perf_counter() - started, 1),
        }
    publish(
        Report(
            name="critical_values",
            about=f"{replications:,} Brownian bridges of {STEPS:,} steps, {SHARES.size} bandwidths, seed {SEED}",
            ours=ours,
            peers={},
            ratio={},
            claims=[
                Claim(
                    f"{level:.1%}: {'published' if level in PUBLISHED else 'those in use'} against simulated, largest "
                    "difference",
                    ours[f"{level:.1%}"]["differs_by"],
                    0.02,
                    at_least=False,
                    unit="of the value",
                )
                for level in USED
            ],
            figures=[
                Figure("at_0.02", "critical value"),
                Figure("at_0.5", "critical value"),
                Figure("at_1", "critical value"),
                Figure("cubic_off_by", "of the value"),
                Figure("differs_by", "of the value"),
            ],
        ),
        options,
    )


def long_run_variances(replications: int) -> np.ndarray:
    """Draws of `Q(b)`, float64 (replications, bandwidths): the long-run variance of white noise of variance 1."""
    generator = np.random.default_rng(SEED)
    lags = np.rint(SHARES * STEPS).astype(np.int64)
    found = np.empty((replications, SHARES.size))
    for first in range(0, replications, _BATCH):
        noise = generator.standard_normal((min(_BATCH, replications - first), STEPS))
        bridges = np.cumsum(noise - noise.mean(axis=1, keepdims=True), axis=1)
        _bartlett(bridges, lags, found[first : first + _BATCH])
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{first + len(noise):,} of {replications:,}")
    return found


@njit(cache=True, fastmath=True)
def _bartlett(sums: np.ndarray, lags: np.ndarray, found: np.ndarray) -> None:
    """The Bartlett estimate of bandwidth `lag` from partial sums that end at 0: the integrals above as sums."""
    steps = sums.shape[1]
    for path in range(sums.shape[0]):
        row = sums[path]
        own = 0.0
        for step in range(steps):
            own += row[step] * row[step]
        for place in range(lags.size):
            lag = lags[place]
            crossed = 0.0
            for step in range(steps - lag):
                crossed += row[step] * row[step + lag]
            found[path, place] = 2.0 * (own - crossed) / (lag * steps)


def quantile(level: float, roots: np.ndarray) -> float:
    """The value that the statistic stays below with this probability, given draws of `sqrt(Q(b))`, (n,)."""
    return float(brentq(lambda value: ndtr(value * roots).mean() - level, 1.0, 50.0, xtol=1e-6))


def fit_cubic(level: float, quantiles: np.ndarray) -> list[float]:
    """Coefficients of 1, b, b^2 and b^3; the first is the normal quantile, the limit of a small bandwidth."""
    normal = float(ndtri(level))
    powers = np.stack([SHARES, SHARES**2, SHARES**3], axis=1)
    return [normal, *np.linalg.lstsq(powers, quantiles - normal)[0].tolist()]


def cubic(coefficients: "list[float] | tuple[float, ...]") -> np.ndarray:
    """Its values at `SHARES`."""
    return np.polynomial.polynomial.polyval(SHARES, coefficients)


def _largest(differences: np.ndarray) -> float:
    return float(np.abs(differences).max())


if __name__ == "__main__":
    sys.exit(run(main))
