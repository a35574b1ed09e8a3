"""Exact limits of a share of which some of many were seen: after Clopper and Pearson, not by a normal curve.

C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
Biometrika 26 (1934).
"""

from scipy.stats import beta, binomtest


def upper_bound(found: int, of: int, confidence: float = 0.95) -> float:
    """The largest share of which `found` or fewer of `of` are seen with a chance of `1 - confidence` at least.

    One-sided. Of none it is `1 - (1 - confidence) ** (1 / of)`.
    """
    return 1.0 if found >= of else float(beta.ppf(confidence, found + 1, of - found))


def exact_share_95(found: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share: lower and upper limit, fractions.

    Two-sided, so that its upper limit is above that of `upper_bound`.
    """
    interval = binomtest(found, of).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)
