"""Train a transformer: Lightning's trainer, early stopping on the validation loss, the best epoch's weights kept.

On the CPU and with one thread two trainings on the same rows give the same weights, bit for bit. Another number of
threads adds up in another order, as does a GPU: `.configuration.TFT_REBUILD_TOLERANCE` says how far that may lead.
"""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping

from levibot_core.errors import DataQualityError
from levibot_core.models.tft.configuration import TFTConfiguration
from levibot_core.models.tft.dataset import TFTData, dataset_arguments, tft_data
from levibot_core.models.tft.features import volatility_feature
from levibot_core.models.tft.network import Batches, build_network
from levibot_core.models.tft.profile import TFTProfile

_LARGEST_GRADIENT = 1.0
_EXPECTED_WARNINGS = (
    # Lightning 2.6 on torch 2.13. Drop when Lightning moves.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)
Accelerator = Literal["auto", "cpu", "gpu"]


@dataclass(frozen=True, slots=True)
class EpochReport:
    """Where a training stands after an epoch.

    Attributes:
        epoch: Counted from 1.
        epochs: How many there are at most.
        train_loss: Quantile loss of the epoch's steps.
        validation_loss: Quantile loss after the epoch.
        seconds: Since the training began.
    """

    epoch: int
    epochs: int
    train_loss: float
    validation_loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainedTFT:
    """A trained network, on the CPU and in evaluation mode, with everything that its use needs.

    Attributes:
        configuration: What `tft.json` will hold.
        network: The network with the best epoch's weights.
        data: What it was trained on.
        epochs: One report per epoch.
    """

    configuration: TFTConfiguration
    network: LightningModule
    data: TFTData
    epochs: tuple[EpochReport, ...]


def train_tft(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    features: Sequence[str],
    profile: TFTProfile,
    *,
    horizon_bars: int,
    bar_ms: int,
    seed: int,
    threads: int = 1,
    accelerator: Accelerator = "auto",
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> TrainedTFT:
    """Train on the rows of the train part, stopped by those of the validation part.

    Args:
        train: Training rows: symbol, ts, the features, label and forward_return.
        validation: The same, of later times.
        features: The inputs in order, see `levibot_core.models.tft.features.tft_features`.
        profile: Size and amount of work.
        horizon_bars: Bars from a decision to the close that decides.
        bar_ms: Length of a bar, milliseconds.
        seed: Of the weights and of dropout.
        threads: Threads of torch on the CPU.
        accelerator: `auto` takes a GPU when there is one.
        on_epoch: Told the progress after each epoch.

    Raises:
        ConfigurationError, DataQualityError, MissingFeatureError: as `tft_data`.
    """
    data = tft_data(train, validation, features, horizon_bars=horizon_bars, window=profile.window, bar_ms=bar_ms)
    with _reproducible(seed, threads), _quiet():
        network = build_network(data, profile)
        watcher = _Watcher(profile.epochs, on_epoch)
        trainer = _trainer(profile, accelerator, [watcher, EarlyStopping("val_loss", patience=profile.patience)])
        limit = min(profile.batch_size * profile.limit_train_batches, -(-len(data.train) // profile.stride))
        try:
            trainer.fit(
                network,
                Batches(data, data.train, profile.batch_size, limit, train=True),
                Batches(data, data.validation, profile.batch_size, profile.validation_windows, train=False),
            )
        except UserWarning as error:
            raise DataQualityError(
                f"Expected a finite loss, was none after {len(watcher.reports)} epochs: the training diverged. "
                f"Lower the learning rate, which was {profile.learning_rate:g}."
            ) from error
    network.load_state_dict(watcher.best_weights)
    configuration = TFTConfiguration(
        features=data.features,
        horizon_bars=horizon_bars,
        volatility_feature=volatility_feature(data.features),
        centers=data.scaler.centers,
        spreads=data.scaler.spreads,
        profile=profile,
        seed=seed,
        epochs=len(watcher.reports),
        best_epoch=watcher.best.epoch,
        validation_loss=watcher.best.validation_loss,
        dataset=dataset_arguments(data.features, profile.window),
    )
    return TrainedTFT(configuration, network.cpu().eval(), data, tuple(watcher.reports))


class _Watcher(Callback):
    """Reports every epoch, and keeps the weights of the best in memory: a checkpoint file would be a pickle."""

    def __init__(self, epochs: int, on_epoch: Callable[[EpochReport], None] | None) -> None:
        self._epochs = epochs
        self._on_epoch = on_epoch
        self._started = time.monotonic()
        self.reports: list[EpochReport] = []
        self.best_weights: dict[str, torch.Tensor] = {}

    @property
    def best(self) -> EpochReport:
        return min(self.reports, key=lambda report: report.validation_loss)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        losses = trainer.callback_metrics
        report = EpochReport(
            epoch=trainer.current_epoch + 1,
            epochs=self._epochs,
            train_loss=float(losses["train_loss_epoch"]),
            validation_loss=float(losses["val_loss"]),
            seconds=time.monotonic() - self._started,
        )
        self.reports.append(report)
        if self.best is report:
            self.best_weights = {name: weight.cpu().clone() for name, weight in pl_module.state_dict().items()}
        if self._on_epoch is not None:
            self._on_epoch(report)


def _trainer(profile: TFTProfile, accelerator: Accelerator, callbacks: list[Callback]) -> Trainer:
    on_gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    return Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=1,
        max_epochs=profile.epochs,
        limit_train_batches=profile.limit_train_batches,
        gradient_clip_val=_LARGEST_GRADIENT,
        deterministic=True,
        callbacks=callbacks,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@contextmanager
def _reproducible(seed: int, threads: int) -> Iterator[None]:
    """Seeds and threads for the length of a training; what the process had before is put back."""
    before: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "tf32": torch.backends.cudnn.allow_tf32,
    }
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        try:
            torch.set_num_threads(threads)
            torch.backends.cudnn.allow_tf32 = False
            torch.manual_seed(seed)
            yield
        finally:
            torch.set_num_threads(before["threads"])
            torch.use_deterministic_algorithms(before["deterministic"])
            torch.backends.cudnn.allow_tf32 = before["tf32"]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice, and without warnings about what is as it should be."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        # The library would put a large number in place of such a loss and go on.
        warnings.filterwarnings("error", message="Loss is not finite", category=UserWarning)
        logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            logger.setLevel(level)
