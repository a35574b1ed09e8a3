"""A trained transformer as files: ONNX for serving, safe tensors for whoever goes on training, JSON for the rest.

Torch's newer exporter (`dynamo=True`, `torch.export`) cannot follow the network's lengths, which depend on its input;
the older one takes them as constants, which they are: every window has one length.
"""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningModule
from safetensors.torch import save

from levibot_core.errors import BundleError
from levibot_core.models.tft.network import network_inputs
from levibot_core.models.tft.predictor import (
    CONFIGURATION_FILE,
    INPUT,
    ONNX_FILE,
    OUTPUT,
    WEIGHTS,
    WEIGHTS_FILE,
    open_session,
)
from levibot_core.models.tft.training import TrainedTFT

EXPORT_TOLERANCE = 1e-5
"""Largest difference between torch and ONNX Runtime in a quantile, in units of volatility."""
_COMPARED_WINDOWS = 256
_OPSET = 17
_EXPECTED_WARNINGS = (
    # The lengths of encoder and decoder become constants of the graph; every window has the same.
    "Converting a tensor to a Python (integer|boolean) might cause the trace to be incorrect",
    "torch.as_tensor results are registered as constants in the trace",
    # The initial states are part of the graph and have as many rows as its input, as the comparison shows.
    "Exporting a model to ONNX with a batch_size other than 1",
)


def tft_files(trained: TrainedTFT) -> dict[str, bytes]:
    """`tft.onnx`, `tft.json` and `tft.safetensors`; `read_tft` needs the first two.

    Raises:
        BundleError: on windows of the validation part, ONNX Runtime and torch differ by more than 1e-5.
    """
    wrapped = _WindowsToAnswers(trained.network, trained.configuration.features).eval()
    data = trained.data
    rows = data.validation[:: -(-len(data.validation) // _COMPARED_WINDOWS)]
    windows = torch.from_numpy(np.asarray(data.windows.at(rows), dtype=np.float32))
    network = _onnx(wrapped, windows[:2])
    _expect_equal(wrapped, network, windows)
    return {
        ONNX_FILE: network,
        CONFIGURATION_FILE: (trained.configuration.model_dump_json(indent=2) + "\n").encode(),
        WEIGHTS_FILE: save({name: value.clone().contiguous() for name, value in trained.network.state_dict().items()}),
    }


class _WindowsToAnswers(torch.nn.Module):
    """The network as a function from windows, float32 (n, window, k), to quantiles (n, q) and weights (n, k)."""

    def __init__(self, network: LightningModule, features: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        encoder, decoder = (list[str](getattr(network, name)) for name in ("encoder_variables", "decoder_variables"))
        self.encoder_places = [encoder.index(name) for name in features]
        self.decoder_places = [decoder.index(name) for name in features]

    def forward(self, windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.network(network_inputs(windows))
        before = found["encoder_variables"].squeeze(-2).mean(dim=1)[:, self.encoder_places]
        now = found["decoder_variables"].squeeze(-2).mean(dim=1)[:, self.decoder_places]
        return found["prediction"][:, 0], (before + now) / 2.0


def _onnx(wrapped: _WindowsToAnswers, example: torch.Tensor) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        path = Path(folder) / ONNX_FILE
        # The older exporter says that it is old.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        torch.onnx.export(
            wrapped,
            (example,),
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT, WEIGHTS],
            dynamic_axes={name: {0: "rows"} for name in (INPUT, OUTPUT, WEIGHTS)},
        )
        return path.read_bytes()


def _expect_equal(wrapped: _WindowsToAnswers, network: bytes, windows: torch.Tensor) -> None:
    with torch.no_grad():
        expected = [answer.numpy() for answer in wrapped(windows)]
    answers = open_session(network).run([OUTPUT, WEIGHTS], {INPUT: windows.numpy()})
    difference = max(float(np.abs(found - own).max()) for found, own in zip(answers, expected, strict=True))
    if not difference <= EXPORT_TOLERANCE:
        raise BundleError(
            f"Expected ONNX Runtime to give the quantiles of torch within {EXPORT_TOLERANCE:g}, was {difference:g} "
            "off. Install the pinned versions of torch, onnx and onnxruntime, then train again."
        )
