"""Models-from-code script: an MLflow pyfunc around a levibot bundle.

MLflow stores this file with each registered model and runs it to load one. Input: a frame with the bundle's
feature columns (float64) and a `symbol` column (BTC/USDT); output: the calibrated probability that the close
after the horizon is above the close now, float64, one per row.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from levibot_core.models.bundle import ModelBundle


class LevibotBundle(mlflow.pyfunc.PythonModel):
    """Load the bundle from the model's artifacts and predict with it."""

    def load_context(self, context: Any) -> None:
        """Read the bundle; its hashes are checked."""
        self.bundle = ModelBundle.load(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        """Calibrated probability of a rise per row."""
        del context, params  # Required by the MLflow hook; the bundle holds all it needs.
        features = self.bundle.manifest.features
        columns = {name: model_input[name].to_numpy(dtype="float64") for name in features if name in model_input}
        return self.bundle.predict(self.bundle.matrix(model_input["symbol"].tolist(), columns))


mlflow.models.set_model(LevibotBundle())
