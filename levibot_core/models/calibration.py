"""Calibration: turning a model's score into a probability that holds, fitted on rows the model never saw.

Applying a calibrator needs numpy alone and is exact after a JSON round trip; the one with an interval is in
`levibot_core.models.venn_abers`. Fitting and choosing is in `.calibration_fitting`, the diagram in `.plots`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from levibot_core.errors import BundleError
from levibot_core.models.venn_abers import VennAbersCalibrator

CalibrationMethod = Literal["none", "platt", "isotonic", "venn_abers"]

# Scores outside cannot be told apart from it in a logit that is later added up.
_LOGIT_CLIP = 1e-12


class Calibrator(Protocol):
    """Maps raw scores to probabilities."""

    @property
    def method(self) -> CalibrationMethod:
        """Name of the method, as the manifest has it."""
        ...

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Calibrated probability per raw score: float64 (n,) in, float64 (n,) out, never decreasing in the score."""
        ...

    def to_json(self) -> str:
        """The calibrator as JSON text; `calibrator_from_json` gives back an equal one."""
        ...


@dataclass(frozen=True, slots=True)
class IdentityCalibrator:
    """Leaves scores as they are: for models that are calibrated by construction, and before calibration."""

    @property
    def method(self) -> CalibrationMethod:
        """See `Calibrator.method`."""
        return "none"

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """See `Calibrator.apply`."""
        return np.asarray(raw, dtype=np.float64)

    def to_json(self) -> str:
        """See `Calibrator.to_json`."""
        return json.dumps({"method": "none"}) + "\n"


@dataclass(frozen=True, slots=True)
class PlattCalibrator:
    """A logistic curve over the logit of the score: p = 1 / (1 + exp(-(slope * logit(raw) + intercept))).

    After J. Platt, "Probabilistic outputs for support vector machines" (1999). The slope is never negative.
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.slope) and np.isfinite(self.intercept) and self.slope >= 0.0):
            raise BundleError(
                f"Expected a finite Platt slope of at least 0 and a finite intercept, "
                f"was {self.slope} and {self.intercept}. Calibrate the model again."
            )

    @property
    def method(self) -> CalibrationMethod:
        """See `Calibrator.method`."""
        return "platt"

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """See `Calibrator.apply`."""
        return sigmoid(self.slope * logit(raw) + self.intercept)

    def to_json(self) -> str:
        """See `Calibrator.to_json`."""
        return json.dumps({"method": "platt", "slope": self.slope, "intercept": self.intercept}) + "\n"


@dataclass(frozen=True, slots=True)
class IsotonicCalibrator:
    """A non-decreasing curve through points, straight between them and flat outside.

    Attributes:
        scores: Raw scores of the points, strictly increasing.
        probabilities: Calibrated probabilities there, never decreasing, all strictly between 0 and 1.
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        scores, probabilities = np.asarray(self.scores), np.asarray(self.probabilities)
        sound = (
            0 < scores.size == probabilities.size
            and bool(np.isfinite(scores).all())
            and bool((np.diff(scores) > 0).all())
            and bool((np.diff(probabilities) >= 0).all())
            and bool(((probabilities > 0) & (probabilities < 1)).all())
        )
        if not sound:
            raise BundleError(
                "Expected an isotonic curve of rising scores and never falling probabilities between 0 and 1, "
                "was something else. Calibrate the model again."
            )

    @property
    def method(self) -> CalibrationMethod:
        """See `Calibrator.method`."""
        return "isotonic"

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """See `Calibrator.apply`."""
        return np.asarray(np.interp(raw, self.scores, self.probabilities), dtype=np.float64)

    def to_json(self) -> str:
        """See `Calibrator.to_json`."""
        return (
            json.dumps({"method": "isotonic", "scores": self.scores, "probabilities": self.probabilities}, indent=2)
            + "\n"
        )


def calibrator_from_json(text: str) -> Calibrator:
    """Read a calibrator written by `to_json`.

    Raises:
        BundleError: the text is not JSON, of an unknown method, or holds values that cannot be.
    """
    try:
        content = json.loads(text)
        return _from_mapping(content)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"Expected a calibrator in JSON, was {text[:80]!r} ({error}). Calibrate again.") from error


def _from_mapping(content: Mapping[str, object]) -> Calibrator:
    match content:
        case {"method": "none"}:
            return IdentityCalibrator()
        case {"method": "platt", "slope": float(slope), "intercept": float(intercept)}:
            return PlattCalibrator(slope, intercept)
        case {"method": "isotonic", "scores": list(scores), "probabilities": list(probabilities)}:
            return IsotonicCalibrator(tuple(map(float, scores)), tuple(map(float, probabilities)))
        case {"method": "venn_abers", "edges": list(edges), "lower": list(lower), "upper": list(upper)}:
            return VennAbersCalibrator(tuple(map(float, edges)), tuple(map(float, lower)), tuple(map(float, upper)))
    raise ValueError("unknown method or missing values")


def logit(probabilities: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) per element, with p kept 1e-12 away from 0 and 1 so that it is finite."""
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), _LOGIT_CLIP, 1.0 - _LOGIT_CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) per element, without overflow."""
    decay = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1.0, decay) / (1.0 + decay))
