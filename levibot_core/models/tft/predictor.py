"""A trained transformer that predicts: the network in ONNX Runtime, on one thread, without torch.

Making the files is the work of `.export`. What is done with quantiles is in `.quantile_function`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import ValidationError

from levibot_core.errors import BundleError, MissingFeatureError
from levibot_core.models.tft.configuration import TFTConfiguration
from levibot_core.models.tft.quantile_function import normal_spread, probability_above, rearranged

if TYPE_CHECKING:
    import onnxruntime

ONNX_FILE: Final = "tft.onnx"
CONFIGURATION_FILE: Final = "tft.json"
WEIGHTS_FILE: Final = "tft.safetensors"
INPUT, OUTPUT, WEIGHTS = "window", "quantiles", "selection_weights"
ROWS_PER_RUN: Final = 256
"""Windows that the network is given at once; more are slower again, as they leave the caches."""
_REMEDY = "Fetch the model from the registry again, or train it again."


class TFTPredictor:
    """Forecasts of a window. Immutable; safe to share between threads.

    How many windows are given at once changes an answer in its last bits, about 1e-7 of a probability: matrix products
    are added up in another order. With `rows_per_run` 1 every answer has the bits of a single request.
    """

    def __init__(
        self,
        configuration: TFTConfiguration,
        session: "onnxruntime.InferenceSession",
        rows_per_run: int = ROWS_PER_RUN,
    ) -> None:
        self._configuration = configuration
        self._session = session
        self._rows_per_run = rows_per_run

    @property
    def configuration(self) -> TFTConfiguration:
        """What it was trained with."""
        return self._configuration

    @property
    def window(self) -> int:
        """Bars of a window, the newest included."""
        return self._configuration.window

    @property
    def features(self) -> tuple[str, ...]:
        """The features of a bar, in order."""
        return self._configuration.features

    def quantiles(self, windows: np.ndarray) -> np.ndarray:
        """Quantiles of the return over the horizon (fraction of the close), float64 (n, q), rising in each row.

        Args:
            windows: float64 (n, window, k): features as they are, not scaled; the oldest bar first.

        Raises:
            MissingFeatureError: another shape, or a value is NaN or infinite.
        """
        forecast = self._in_volatilities(windows)
        return np.asarray(forecast * self._configuration.horizon_volatility(windows[:, -1])[:, np.newaxis])

    def predict(self, windows: np.ndarray) -> np.ndarray:
        """Uncalibrated probability of a rise over the horizon, float64 (n,), of windows as in `quantiles`.

        Raises:
            MissingFeatureError: as `quantiles`.
        """
        # A volatility is above 0, so it does not move the place of 0.
        return probability_above(self._in_volatilities(windows), self._configuration.levels)

    def volatility(self, windows: np.ndarray) -> np.ndarray:
        """Standard deviation of the return over the horizon, float64 (n,), of windows as in `quantiles`.

        Of the normal distribution that spreads as far as the forecast does from its 10 % to its 90 % quantile.

        Raises:
            MissingFeatureError: as `quantiles`.
        """
        return normal_spread(self.quantiles(windows), self._configuration.levels)

    def selection_weights(self, windows: np.ndarray) -> np.ndarray:
        """How much weight the network's variable selection gave each feature, float64 (n, k).

        Half of it at the bar of the decision, half on average over the bars before, for which the network has a
        selection of their own (Lim et al. 2021, section 4.2). Those of a window add up to 1. They say where the network
        looked, not in which direction a value moved the forecast.

        Raises:
            MissingFeatureError: as `quantiles`.
        """
        return self._run(WEIGHTS, windows, len(self.features))

    def _in_volatilities(self, windows: np.ndarray) -> np.ndarray:
        return rearranged(self._run(OUTPUT, windows, len(self._configuration.levels)))

    def _run(self, output: str, windows: np.ndarray, width: int) -> np.ndarray:
        """One of the network's outputs, float64 (n, width)."""
        expected = (self.window, len(self.features))
        if windows.ndim != 3 or windows.shape[1:] != expected or not np.isfinite(windows).all():
            raise MissingFeatureError(
                f"Expected windows of {expected[0]} bars with a finite number for each of {expected[1]} features, "
                f"was an array of shape {windows.shape} or had a hole. A window is whole, or there is no forecast."
            )
        inputs = self._configuration.network_input(windows)
        rows = self._rows_per_run
        starts = range(0, len(inputs), rows)
        answers = [self._session.run([output], {INPUT: inputs[start : start + rows]})[0] for start in starts]
        return np.concatenate(answers).astype(np.float64) if answers else np.empty((0, width))


def read_tft(files: Mapping[str, bytes], rows_per_run: int = ROWS_PER_RUN) -> TFTPredictor:
    """Read a predictor from the content of `tft.onnx` and `tft.json`; other files are ignored.

    Args:
        files: Name to content.
        rows_per_run: See `TFTPredictor`.

    Raises:
        BundleError: a file is missing, cannot be read, or they do not belong together.
    """
    if absent := [name for name in (ONNX_FILE, CONFIGURATION_FILE) if name not in files]:
        raise BundleError(f"Expected {' and '.join(absent)} of a transformer, was without. {_REMEDY}")
    try:
        configuration = TFTConfiguration.model_validate_json(files[CONFIGURATION_FILE])
        _ = configuration.scaler
    except (ValidationError, BundleError) as error:
        raise BundleError(f"Expected {CONFIGURATION_FILE} to describe a transformer, but {error}. {_REMEDY}") from error
    session = open_session(files[ONNX_FILE])
    shapes = [entry.shape[1:] for entry in (*session.get_inputs(), *session.get_outputs())]
    names = [entry.name for entry in (*session.get_inputs(), *session.get_outputs())]
    features = len(configuration.features)
    expected = [[configuration.window, features], [len(configuration.levels)], [features]]
    if names != [INPUT, OUTPUT, WEIGHTS] or shapes != expected:
        raise BundleError(
            f"Expected {ONNX_FILE} from {INPUT} to {OUTPUT} and {WEIGHTS} of shapes {expected}, was {names} of "
            f"{shapes}. {_REMEDY}"
        )
    return TFTPredictor(configuration, session, rows_per_run)


def open_session(network: bytes) -> "onnxruntime.InferenceSession":
    """The network, ready to run on one thread: for the rows of a request, more would only wait for each other.

    Raises:
        BundleError: the bytes are no network.
    """
    import onnxruntime  # A third of a second; needed by this family alone.

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own that have no common base but this one
        raise BundleError(f"Expected {ONNX_FILE} to be a network, but ONNX Runtime says: {error}. {_REMEDY}") from error
