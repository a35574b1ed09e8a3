"""The network: pytorch-forecasting's Temporal Fusion Transformer (Lim et al. 2021), and the batches it takes."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pytorch_forecasting import TemporalFusionTransformer
from pytorch_forecasting.metrics import QuantileLoss
from pytorch_forecasting.models.temporal_fusion_transformer.sub_modules import ResampleNorm

from levibot_core.models.tft.configuration import QUANTILE_LEVELS
from levibot_core.models.tft.dataset import TFTData, time_series_dataset
from levibot_core.models.tft.profile import TFTProfile

Batch = tuple[dict[str, torch.Tensor], tuple[torch.Tensor, None]]
"""What pytorch-forecasting's loaders give: the inputs, the targets and no weights."""

_EXAMPLE_WINDOWS = 4
# Multiples of 1 leave gaps as far as possible from each other (the golden ratio): no epoch repeats another's windows.
_EPOCH_STEP = (5**0.5 - 1) / 2


def build_network(data: TFTData, profile: TFTProfile) -> TemporalFusionTransformer:
    """An untrained network for these data; its weights come from torch's random generator."""
    dataset = time_series_dataset(data, data.train[:_EXAMPLE_WINDOWS])
    with warnings.catch_warnings():
        # The library keeps its loss among the parameters of the network, which is wrong for checkpoints; none is made.
        warnings.filterwarnings("ignore", message="Attribute '(loss|logging_metrics)' is an instance of `nn.Module`")
        network = TemporalFusionTransformer.from_dataset(
            dataset,
            hidden_size=profile.hidden_size,
            # As in the paper: every feature is spread over the whole width. Narrower costs more, for the stretching.
            hidden_continuous_size=profile.hidden_size,
            lstm_layers=profile.lstm_layers,
            attention_head_size=profile.attention_heads,
            dropout=profile.dropout,
            learning_rate=profile.learning_rate,
            loss=QuantileLoss(list(QUANTILE_LEVELS)),
            output_size=len(QUANTILE_LEVELS),
            optimizer="adam",
            reduce_on_plateau_patience=3,
            log_interval=0,
            logging_metrics=torch.nn.ModuleList(),
        )
    for norm in [module for module in network.modules() if isinstance(module, ResampleNorm)]:
        if norm.input_size != norm.output_size:
            norm.resample = _Interpolation(norm.input_size, norm.output_size)
    for lstm in (network.lstm_encoder, network.lstm_decoder):
        lstm.register_forward_pre_hook(_unpacked, with_kwargs=True)
    return network


def _unpacked(
    _: torch.nn.Module, arguments: tuple[Any, ...], __: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of an LSTM without lengths.

    All windows are as long, and packing sequences of one length changes nothing but the time it takes; ONNX cannot
    express it for another number of rows than was exported.
    """
    inputs, (hidden, cell) = arguments
    return (inputs, (hidden.contiguous(), cell.contiguous())), {}


class _Interpolation(torch.nn.Module):
    """Stretches or shrinks the last axis linearly, both ends kept, as the library does by `interpolate`.

    That computes places on the axis in float32: of 1344 values they are off by 1e-4, in torch one way and in ONNX
    Runtime another. Here they are constants. There are no weights, so the state of the network is the library's.
    """

    left: torch.Tensor
    right: torch.Tensor
    share: torch.Tensor

    def __init__(self, size: int, output_size: int) -> None:
        super().__init__()
        places = np.linspace(0.0, size - 1.0, output_size) if output_size > 1 else np.zeros(1)
        left = np.minimum(places.astype(np.int64), max(size - 2, 0))
        self.register_buffer("left", torch.from_numpy(left), persistent=False)
        self.register_buffer("right", torch.from_numpy(np.minimum(left + 1, size - 1)), persistent=False)
        self.register_buffer("share", torch.from_numpy((places - left).astype(np.float32)), persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        left, right = values.index_select(-1, self.left), values.index_select(-1, self.right)
        return left + (right - left) * self.share


def network_inputs(windows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Windows as the network takes them.

    Args:
        windows: Scaled features, float32 (n, window, k); the last bar is the decoder's.
    """
    count, length, _ = windows.shape
    device = windows.device
    ones = torch.ones(count, dtype=torch.int64, device=device)
    return {
        "encoder_cat": torch.zeros(count, length - 1, 0, dtype=torch.int64, device=device),
        "encoder_cont": windows[:, :-1],
        "encoder_lengths": ones * (length - 1),
        "decoder_cat": torch.zeros(count, 1, 0, dtype=torch.int64, device=device),
        "decoder_cont": windows[:, -1:],
        "decoder_lengths": ones,
        # The identity: centre 0, scale 1.
        "target_scale": torch.stack([torch.zeros(count, device=device), torch.ones(count, device=device)], dim=1),
    }


class Batches:
    """Batches of windows for Lightning, made by indexing one tensor: nothing is shuffled, everything is in order.

    Every batch holds windows from the whole time in chronological order, each epoch's between those of the others.
    The n-th time this is iterated is the n-th epoch.
    """

    def __init__(self, data: TFTData, rows: np.ndarray, batch_size: int, limit: int, *, train: bool) -> None:
        """Args as follows.

        Args:
            data: The rows.
            rows: Numbers of rows at which a window ends, in order of time.
            batch_size: Windows of a batch.
            limit: Windows of an epoch, at most.
            train: Whether epochs differ; otherwise each sees the same windows.
        """
        self._values = torch.from_numpy(np.ascontiguousarray(data.windows.values, dtype=np.float32))
        self._bars = torch.from_numpy(data.windows.bars_of(rows))
        self._targets = torch.from_numpy(data.targets[rows])
        self._count = min(limit, len(rows))
        self._batches = -(-self._count // batch_size)
        self._train = train
        self._epoch = 0

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[Batch]:
        shift = self._epoch * _EPOCH_STEP % 1.0
        self._epoch += self._train
        places = ((np.arange(self._count) + shift) * (len(self._targets) / self._count)).astype(np.int64)
        for number in range(self._batches):
            yield self._batch(torch.from_numpy(places[number :: self._batches]))

    def _batch(self, places: torch.Tensor) -> Batch:
        windows, targets = self._values[self._bars[places]], self._targets[places].unsqueeze(1)
        inputs = network_inputs(windows)
        inputs["decoder_target"] = targets
        return inputs, (targets, None)
