"""What a volatility forecast has to beat, HAR-RV and RiskMetrics' weighted mean, and the loss to judge it by.

Both are given the close-to-close log returns of one symbol on a regular grid of bars, NaN where a bar is missing, and
forecast the volatility over the next h bars from what is known at the close of each bar. The trained forecast is in
`levibot_core.models.volatility_fitting`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from levibot_core.errors import DataQualityError

RISKMETRICS_DECAY = 0.94
"""J.P. Morgan and Reuters, "RiskMetrics: technical document" (1996); there per day."""


def qlike(realized: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """QLIKE of each forecast, float64 (n,): v / f - ln(v / f) - 1 with v the realised and f the forecast variance.

    A. Patton, "Volatility forecast comparison using imperfect volatility proxies" (2011), scaled so that a perfect
    forecast has 0: it ranks forecasts rightly although realised variance is a noisy measure of the true one.

    Args:
        realized: Realised volatility over the horizon, above 0, (n,).
        forecast: Forecast of it, above 0, (n,).

    Raises:
        DataQualityError: a value is not a number above 0.
    """
    for name, values in (("realised", realized), ("forecast", forecast)):
        if not bool((np.isfinite(values) & (values > 0.0)).all()):
            raise DataQualityError(f"Expected every {name} volatility to be above 0, was not. Leave such rows out.")
    ratio = (realized / forecast) ** 2
    return np.asarray(ratio - np.log(ratio) - 1.0)


def bar_returns(open_ms: np.ndarray, closes: np.ndarray, step_ms: int) -> np.ndarray:
    """Log return of each bar over the one before, (n,); NaN for the first bar and after a missing one.

    Args:
        open_ms: Open times of one symbol's bars, UTC milliseconds, rising, (n,).
        closes: Their closes, (n,).
        step_ms: Length of a bar.
    """
    returns = np.append(np.nan, np.diff(np.log(closes)))
    returns[1:][np.diff(open_ms) != step_ms] = np.nan
    return returns


def trailing_volatility(returns: np.ndarray, bars: int) -> np.ndarray:
    """Root mean square of the last `bars` returns at each bar, (n,); NaN where one of them is missing or all are 0."""
    found = np.full(returns.size, np.nan)
    if returns.size >= bars:
        windows = np.lib.stride_tricks.sliding_window_view(returns**2, bars)
        found[bars - 1 :] = np.sqrt(windows.mean(axis=1))
    return np.where(found > 0.0, found, np.nan)


def ewma_volatility(returns: np.ndarray, horizon_bars: int, decay: float = RISKMETRICS_DECAY) -> np.ndarray:
    """RiskMetrics' forecast over the horizon at each bar, (n,): variance = decay * variance + (1 - decay) * return^2.

    The variance of the horizon is that of a bar times its bars. A missing bar leaves the variance as it was; the first
    is the first squared return above 0, and forecasts before it are NaN.
    """
    found = np.full(returns.size, np.nan)
    variance = np.nan
    for place, square in enumerate((returns**2).tolist()):
        if square == square:  # A missing bar is NaN.
            variance = decay * variance + (1.0 - decay) * square if variance == variance else square or np.nan
        found[place] = variance
    return np.asarray(np.sqrt(horizon_bars * found))


@dataclass(frozen=True, slots=True)
class DiurnalPattern:
    """How volatile each bar of the day is beside the mean bar, whose factor is 1.

    Attributes:
        factors: Ratio of standard deviations per bar of the day, (bars per day,).
    """

    factors: np.ndarray

    @classmethod
    def fit(
        cls, returns: np.ndarray, bar_of_day: np.ndarray, bars_per_day: int, smooth_bars: int = 12
    ) -> "DiurnalPattern":
        """Root mean square of the returns per bar of the day, smoothed around the clock.

        After T. Andersen, T. Bollerslev, "Intraday periodicity and volatility persistence in financial markets" (1997),
        with a moving mean of the squares in place of their Fourier form.

        Args:
            returns: Log returns of the rows to fit on, (n,), NaN where missing.
            bar_of_day: Which bar of the UTC day each is, (n,).
            bars_per_day: How many there are.
            smooth_bars: Bars before and after that are averaged in.
        """
        known = np.isfinite(returns)
        squares = np.bincount(bar_of_day[known], weights=returns[known] ** 2, minlength=bars_per_day)
        counts = np.bincount(bar_of_day[known], minlength=bars_per_day)
        around = np.arange(-smooth_bars, smooth_bars + 1)[:, None] + np.arange(bars_per_day)[None, :]
        around %= bars_per_day
        factors = np.sqrt(squares[around].sum(axis=0) / np.maximum(counts[around].sum(axis=0), 1))
        if not (factors > 0.0).all():
            raise DataQualityError("Expected returns at every time of the day, was without some. Take more days.")
        return cls(factors / np.sqrt(np.mean(factors**2)))

    def ahead(self, bar_of_day: np.ndarray, horizon_bars: int) -> np.ndarray:
        """Root mean square factor of the next bars, (n,), for bars at those places of the day, (n,)."""
        squares = np.tile(self.factors**2, 2 + horizon_bars // self.factors.size)
        sums = np.concatenate([[0.0], np.cumsum(squares)])
        return np.asarray(np.sqrt((sums[bar_of_day + 1 + horizon_bars] - sums[bar_of_day + 1]) / horizon_bars))


@dataclass(frozen=True, slots=True)
class HarModel:
    """HAR-RV of one symbol: the log volatility ahead is linear in the log volatilities of an hour, a day and a week.

    F. Corsi, "A simple approximate long-memory model of realized volatility" (2009), whose day, week and month are of
    daily data; on 5-minute bars the same idea starts at an hour. In logs, as T. Andersen, T. Bollerslev, F. Diebold,
    "Roughing it up" (2007) also fit it: errors are close to normal, no forecast is below 0, and one crash does not own
    the fit.

    Attributes:
        coefficients: Of a constant and of each component, (1 + components,).
        component_bars: Length of each component in bars.
        horizon_bars: Bars that it forecasts.
        smearing: Root of the mean of exp(2 * error) over the rows of the fit (Duan 1983), as for the trained forecast.
    """

    coefficients: np.ndarray
    component_bars: tuple[int, ...]
    horizon_bars: int
    smearing: float

    @classmethod
    def fit(
        cls, returns: np.ndarray, realized: np.ndarray, component_bars: Sequence[int], horizon_bars: int
    ) -> "HarModel":
        """Least squares on the rows whose components and label are all there.

        Args:
            returns: Log returns at each bar, (n,).
            realized: Realised volatility over the horizon after each bar, (n,); NaN for rows not to fit on.
            component_bars: Length of each component, such as 12, 288 and 2016 bars.
            horizon_bars: Bars that `realized` spans.

        Raises:
            DataQualityError: there are fewer rows than ten per coefficient.
        """
        columns = _har_columns(returns, component_bars)
        with np.errstate(divide="ignore", invalid="ignore"):
            target = np.log(realized)
        usable = np.isfinite(columns).all(axis=1) & np.isfinite(target)
        needed = 10 * columns.shape[1]
        if usable.sum() < needed:
            raise DataQualityError(f"Expected at least {needed} rows to fit HAR-RV on, was {usable.sum()}.")
        coefficients = np.linalg.lstsq(columns[usable], target[usable])[0]
        errors = target[usable] - columns[usable] @ coefficients
        smearing = float(np.sqrt(np.mean(np.exp(2.0 * errors))))
        return cls(coefficients, tuple(component_bars), horizon_bars, smearing)

    def predict(self, returns: np.ndarray) -> np.ndarray:
        """The forecast over the horizon at each bar, (n,); NaN where a component is not known."""
        return np.asarray(self.smearing * np.exp(_har_columns(returns, self.component_bars) @ self.coefficients))


def _har_columns(returns: np.ndarray, component_bars: Sequence[int]) -> np.ndarray:
    shorter_first = all(shorter < longer for shorter, longer in pairwise(component_bars))
    if not component_bars or not shorter_first:
        raise DataQualityError(f"Expected components of rising length, was {list(component_bars)}.")
    logs = [np.log(trailing_volatility(returns, bars)) for bars in component_bars]
    return np.column_stack([np.ones(returns.size), *logs])
