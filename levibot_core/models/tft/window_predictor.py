"""The transformer as a family of bundles: the inputs of every model in, without the column it has no use for.

Reading its files is the work of `.predictor`. Serving imports this module: numpy, and onnxruntime once a model is read.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from levibot_core.errors import BundleError, ExplanationError, MissingFeatureError
from levibot_core.models.tft.predictor import CONFIGURATION_FILE, TFTPredictor, read_tft


class WindowPredictor:
    """A transformer that is asked as other models are: float64 (n, window, f + 1), the symbol code last."""

    def __init__(self, network: TFTPredictor) -> None:
        self._network = network

    @property
    def network(self) -> TFTPredictor:
        """The transformer itself, which also knows quantiles of the return."""
        return self._network

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Uncalibrated probability of a rise, float64 (n,).

        Raises:
            MissingFeatureError: another shape, or a value is NaN or infinite.
        """
        return self._network.predict(self._without_symbol(matrix))

    def selection_weights(self, matrix: np.ndarray) -> np.ndarray:
        """How much weight the network gave each feature, float64 (n, f), rows of which add up to 1.

        Raises:
            MissingFeatureError: as `predict`.
        """
        return self._network.selection_weights(self._without_symbol(matrix))

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """There are none.

        Raises:
            ExplanationError: always.
        """
        raise ExplanationError(
            f"Expected a model of trees to take {len(matrix)} forecasts apart, was a transformer: what a value adds to "
            "its forecast depends on every bar of the window, and is not known exactly. Look at the weights of its "
            "variable selection."
        )

    def _without_symbol(self, matrix: np.ndarray) -> np.ndarray:
        if matrix.ndim != 3:
            raise MissingFeatureError(
                f"Expected windows of {self._network.window} bars, was an array of shape {matrix.shape}. "
                "Give the bars before the row too."
            )
        return np.ascontiguousarray(matrix[:, :, :-1])


def read_window_predictor(files: Mapping[str, bytes], columns: Sequence[str]) -> WindowPredictor:
    """Read the files of a transformer's bundle.

    Args:
        files: Name to content.
        columns: Column names of the inputs, the symbol code last.

    Raises:
        BundleError: a file is missing or cannot be read, or the network looks at other features.
    """
    network = read_tft(files)
    if network.features != tuple(columns[:-1]):
        raise BundleError(
            f"Expected {CONFIGURATION_FILE} of a network on {len(columns) - 1} features in the manifest's order, was "
            f"one on {', '.join(network.features)}. Train the model again."
        )
    return WindowPredictor(network)
