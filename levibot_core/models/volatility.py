"""The volatility head: how far the price is expected to move over the horizon, whichever way. Read from text.

This is all that serving imports of it: numpy, and LightGBM once it is read. Training is in `.volatility_fitting`, what
it is judged against in `.volatility_baselines`.
"""

import json
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from levibot_core.errors import BundleError
from levibot_core.models.booster_text import REGRESSION
from levibot_core.models.predictors import LightGBMPredictor, matrix_columns, read_booster

VOLATILITY_BOOSTER: Final = "volatility.txt"
VOLATILITY_SETTINGS: Final = "volatility.json"
FORMAT: Final = "levibot-volatility/1"


@dataclass(frozen=True, slots=True)
class VolatilitySettings:
    """What stands beside the booster.

    Attributes:
        horizon_bars: Bars ahead that the forecast spans.
        features: Columns of its design matrix, in order, without the symbol code at the end.
        smearing: Factor that makes of a median volatility the root of a mean variance; above 0.
    """

    horizon_bars: int
    features: tuple[str, ...]
    smearing: float

    def __post_init__(self) -> None:
        if not (self.horizon_bars >= 1 and math.isfinite(self.smearing) and self.smearing > 0.0):
            raise BundleError(
                f"Expected a horizon of at least 1 bar and a smearing factor above 0, was {self.horizon_bars} and "
                f"{self.smearing}. Train the volatility head again."
            )


class VolatilityHead:
    """Forecasts the realised volatility over the horizon. Immutable; safe to share between threads."""

    def __init__(self, settings: VolatilitySettings, predictor: LightGBMPredictor) -> None:
        self.settings = settings
        self._predictor = predictor

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Root of the expected variance of the log return over the horizon, a fraction above 0.

        Args:
            matrix: float64 (n, f + 1): the settings' features in order, then the symbol code.

        Returns:
            float64 (n,).

        Raises:
            MissingFeatureError: a value of the matrix is NaN or infinite.
        """
        return np.asarray(self.settings.smearing * np.exp(self._predictor.predict(matrix)))


def volatility_settings_text(settings: VolatilitySettings) -> str:
    """The content of `volatility.json`; `read_volatility` gives back the same settings, bit for bit."""
    content = {
        "format": FORMAT,
        "horizon_bars": settings.horizon_bars,
        "smearing": settings.smearing,
        "features": settings.features,
    }
    return json.dumps(content, indent=2) + "\n"


def read_volatility(booster_text: str, settings_text: str) -> VolatilityHead:
    """Read a volatility head from the content of `volatility.txt` and `volatility.json`; both are verified first.

    Raises:
        BundleError: one of them is incomplete or altered, or they do not belong together.
    """
    settings = _read_settings(settings_text)
    return VolatilityHead(settings, read_booster(booster_text, matrix_columns(settings.features), REGRESSION))


def _read_settings(text: str) -> VolatilitySettings:
    try:
        match json.loads(text):
            case {
                "format": "levibot-volatility/1",
                "horizon_bars": int(horizon_bars),
                "smearing": float(smearing),
                "features": list(features),
            } if all(isinstance(name, str) for name in features):
                return VolatilitySettings(horizon_bars, tuple(features), smearing)
    except ValueError as error:
        raise BundleError(f"Expected {VOLATILITY_SETTINGS} to be JSON, but {error}. Train the head again.") from error
    raise BundleError(
        f"Expected {VOLATILITY_SETTINGS} of the format {FORMAT!r} with horizon_bars, smearing and features, "
        f"was {text[:80]!r}. Train the volatility head again."
    )
