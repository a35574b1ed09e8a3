"""Models-from-code script: an MLflow pyfunc around a levibot bundle.

MLflow stores this file with each registered model and runs it to load one. Input: a frame with the bundle's
feature columns (float64) and a `symbol` column (BTC/USDT); output: the calibrated probability that the close
after the horizon is above the close now, float64, one per row. A model that looks at a window of bars takes its rows
for bars and wants their open time too, `ts` (UTC); where a row's window is not among the others, the answer is NaN.
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
        symbols = model_input["symbol"].tolist()
        if self.bundle.manifest.window == 1:
            return self.bundle.predict(self.bundle.matrix(symbols, columns))
        opened = pd.to_datetime(model_input["ts"], utc=True).dt.tz_localize(None).to_numpy("datetime64[ms]")
        return self.bundle.predict_bars(symbols, opened.astype("int64"), columns)


mlflow.models.set_model(LevibotBundle())
