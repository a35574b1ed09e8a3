"""How unlike the training rows a row is, from what `novelty.json` of a bundle keeps of them.

The distance of a row is the root mean square, over the features, of how many robust standard deviations it lies from
the median (a diagonal Mahalanobis distance with robust location and scale: P. J. Rousseeuw, A. M. Leroy, "Robust
regression and outlier detection", 1987, chapter 7); a single feature counts ten at most. The score is the share of
training rows that are nearer. It sees one feature at a time: a combination that never occurred, of values that did,
looks ordinary. Serving imports this module: numpy alone.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from levibot_core.errors import BundleError

NOVELTY: Final = "novelty.json"
FORMAT: Final = "levibot-novelty/1"
_LIMIT = 10.0
_SAMPLED_ROWS = 20_000
_MOTIONLESS = 1e-150
_SHARES = np.append(np.linspace(0.0, 1.0, 201)[:-1], [0.999, 1.0])
# Of a normal distribution, one standard deviation to either side of the median.
_BELOW, _ABOVE = 0.158655, 0.841345


@dataclass(frozen=True, slots=True)
class NoveltyReference:
    """What is kept of the training rows.

    Attributes:
        center: Median of each feature, float64 (f,).
        scale: Robust standard deviation of each feature, float64 (f,), above 0; tiny for one that never moved.
        distances: Distances of training rows at the shares of `_SHARES`, float64, never falling.
    """

    center: np.ndarray
    scale: np.ndarray
    distances: np.ndarray

    def score(self, row: np.ndarray) -> float:
        """Share of training rows nearer to the middle of them than this row, float64 (f,); 1 is farther than any."""
        return float(np.interp(_distances(row, self.center, self.scale), self.distances, _SHARES))


def fit_novelty(rows: np.ndarray) -> bytes:
    """The content of `novelty.json` for training rows.

    Args:
        rows: The model's features, float64 (n, f), in its order, without the symbol code; of many rows, evenly spaced
            ones are looked at.
    """
    looked_at = rows[:: -(-len(rows) // _SAMPLED_ROWS)]
    below, center, above = np.quantile(looked_at, [_BELOW, 0.5, _ABOVE], axis=0)
    spread = (above - below) / 2.0
    # A feature that seldom moves has no spread between these quantiles, but a deviation.
    scale = np.where(spread > 0.0, spread, looked_at.std(axis=0))
    distances = np.quantile(_distances(looked_at, center, np.where(scale > 0.0, scale, _MOTIONLESS)), _SHARES)
    content = {
        "format": FORMAT,
        "center": center.tolist(),
        "scale": scale.tolist(),
        "distances": np.maximum.accumulate(distances).tolist(),
    }
    return (json.dumps(content, sort_keys=True, allow_nan=False) + "\n").encode()


def read_novelty(content: bytes, features: int) -> NoveltyReference:
    """Read `novelty.json` of a model with that many features.

    Raises:
        BundleError: it is not what `fit_novelty` makes for as many features.
    """
    try:
        found = json.loads(content)
        if found["format"] != FORMAT:
            raise ValueError(f"it is of format {found['format']!r}")
        center, scale = _numbers(found["center"], features), _numbers(found["scale"], features)
        distances = _numbers(found["distances"], _SHARES.size)
        if (scale < 0.0).any() or (np.diff(distances) < 0.0).any():
            raise ValueError("a scale is below 0, or the distances fall")
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"Expected {NOVELTY} to describe the training rows of {features} features, but {error}. Train it again."
        ) from error
    return NoveltyReference(center, np.where(scale > 0.0, scale, _MOTIONLESS), distances)


def _distances(rows: np.ndarray, center: np.ndarray, scale: np.ndarray) -> Any:
    """Of rows (n, f) float64 (n,), of one row (f,) a number."""
    with np.errstate(over="ignore"):
        deviations = np.minimum(np.abs(rows - center) / scale, _LIMIT)
    return np.sqrt(np.mean(np.square(deviations), axis=-1))


def _numbers(values: Any, size: int) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    if array.shape != (size,) or not np.isfinite(array).all():
        raise ValueError(f"one of its lists is not {size} finite numbers")
    return array
