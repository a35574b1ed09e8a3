"""Forecast one window by pytorch-forecasting's `predict`, as its documentation does: from a DataFrame."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.data.encoders import TorchNormalizer
from pytorch_forecasting.metrics import QuantileLoss
from safetensors.torch import load_file

from benchmarks.worker import Arguments, Task, call_times_ms, serve
from levibot_core.models.tft.configuration import TFTConfiguration


def prepare(arguments: Arguments) -> Task:
    """Arguments: `model` (folder of the files), `calls`."""
    # It says the same things at every call.
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    folder = Path(arguments["model"])
    configuration = TFTConfiguration.model_validate_json((folder / "tft.json").read_bytes())
    frame = _frame(configuration)
    network = _network(configuration, frame)
    network.load_state_dict(load_file(folder / "tft.safetensors"))
    trainer: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    calls = int(arguments["calls"])

    def predict() -> torch.Tensor:
        found: torch.Tensor = network.predict(frame, mode="quantiles", trainer_kwargs=trainer)
        return found

    if predict().shape != (1, 1, len(configuration.levels)):
        raise SystemExit("Expected the quantiles of one window.")
    return Task(
        run=lambda: call_times_ms(predict, warm_up=calls // 10, timed=calls),
        describe=lambda times: {"samples_ms": times},
        facts={"features": len(configuration.features), "window": configuration.window},
        packages=("pytorch-forecasting", "torch", "lightning"),
    )


def _frame(configuration: TFTConfiguration) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(configuration.window, len(configuration.features)))
    frame = pd.DataFrame(values, columns=list(configuration.features))
    return frame.assign(segment="one", bar=np.arange(configuration.window), target=0.0)


def _network(configuration: TFTConfiguration, frame: pd.DataFrame) -> TemporalFusionTransformer:
    profile = configuration.profile
    dataset = TimeSeriesDataSet(
        frame, target_normalizer=TorchNormalizer(method="identity", center=False), **configuration.dataset
    )
    return TemporalFusionTransformer.from_dataset(
        dataset,
        hidden_size=profile.hidden_size,
        hidden_continuous_size=profile.hidden_size,
        lstm_layers=profile.lstm_layers,
        attention_head_size=profile.attention_heads,
        loss=QuantileLoss(list(configuration.levels)),
        output_size=len(configuration.levels),
        logging_metrics=torch.nn.ModuleList(),
    )


if __name__ == "__main__":
    serve(prepare)
