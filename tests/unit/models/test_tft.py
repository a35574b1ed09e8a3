"""The transformer from training rows to forecasts, with a tiny network; only tests here import torch."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from pytorch_forecasting import TemporalFusionTransformer
from pytorch_forecasting.data.encoders import GroupNormalizer
from pytorch_forecasting.metrics import QuantileLoss
from safetensors.torch import load

from levibot_core.errors import BundleError, ConfigurationError, DataQualityError, LevibotError, MissingFeatureError
from levibot_core.features.registry import load_registry
from levibot_core.models.metrics import classification_metrics
from levibot_core.models.tft import export
from levibot_core.models.tft.configuration import QUANTILE_LEVELS, TFT_REBUILD_TOLERANCE
from levibot_core.models.tft.dataset import (
    TFTData,
    feature_matrix,
    row_windows,
    scaled_targets,
    tft_data,
    time_series_dataset,
)
from levibot_core.models.tft.export import EXPORT_TOLERANCE, tft_files
from levibot_core.models.tft.features import TFT_FEATURES
from levibot_core.models.tft.network import Batches, build_network, network_inputs
from levibot_core.models.tft.predictor import TFTPredictor, read_tft
from levibot_core.models.tft.profile import TFT_PROFILES, TFTProfile
from levibot_core.models.tft.training import EpochReport, TrainedTFT, train_tft
from levibot_core.schemas import TIMESTAMP
from levibot_core.validation.attack.bits import Fingerprints
from levibot_core.validation.attack.fitting import ROW_CHANGES, attack_fit, attack_forecasts
from levibot_core.validation.split import SplitResult, chronological_split

SYMBOLS = ("BTC/USDT", "ETH/USDT")
FEATURES = ("log_return_1", "realized_volatility_48", "rsi_14")
BAR = timedelta(minutes=5)
BAR_MS, HORIZON, BARS = 300_000, 3, 220
PROFILE = TFTProfile(
    hidden_size=4,
    lstm_layers=1,
    attention_heads=2,
    dropout=0.1,
    window=6,
    epochs=3,
    patience=2,
    batch_size=64,
    limit_train_batches=6,
    validation_windows=64,
    learning_rate=0.03,
)
HASTY = PROFILE.model_copy(update={"epochs": 1, "limit_train_batches": 2})


def make_rows(bars: int = BARS, edge: float = 1.5) -> pl.DataFrame:
    """Training rows whose return follows `log_return_1`, in units of a volatility that differs by symbol."""
    random = np.random.default_rng(5)
    ts = pl.Series("ts", [datetime(2025, 1, 1, tzinfo=UTC) + bar * BAR for bar in range(bars)]).cast(TIMESTAMP)
    frames = []
    for place, symbol in enumerate(SYMBOLS):
        signal = random.normal(size=bars)
        volatility = (1.0 + 9.0 * place) * 1e-3 * random.lognormal(0.0, 0.2, bars)
        returns = volatility * HORIZON**0.5 * (edge * signal + random.normal(size=bars))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": [symbol] * bars,
                    "ts": ts,
                    "known_at": ts + BAR,
                    "log_return_1": signal,
                    "realized_volatility_48": volatility,
                    "rsi_14": random.uniform(20.0, 80.0, bars),
                    "label": (returns > 0).astype(np.int8),
                    "forward_return": returns,
                    "label_end": ts + (HORIZON + 1) * BAR,
                }
            )
        )
    return pl.concat(frames)


def train(split: SplitResult, profile: TFTProfile = HASTY, **changes: object) -> TrainedTFT:
    given: dict[str, object] = {"horizon_bars": HORIZON, "bar_ms": BAR_MS, "seed": 7, "accelerator": "cpu", **changes}
    return train_tft(split.train, split.validation, FEATURES, profile, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def split() -> SplitResult:
    return chronological_split(make_rows())


@pytest.fixture(scope="module")
def data(split: SplitResult) -> TFTData:
    return tft_data(split.train, split.validation, FEATURES, horizon_bars=HORIZON, window=6, bar_ms=BAR_MS)


@pytest.fixture(scope="module")
def reports() -> list[EpochReport]:
    return []


@pytest.fixture(scope="module")
def trained(split: SplitResult, reports: list[EpochReport]) -> TrainedTFT:
    return train(split, PROFILE, on_epoch=reports.append)


@pytest.fixture(scope="module")
def files(trained: TrainedTFT) -> dict[str, bytes]:
    return tft_files(trained)


@pytest.fixture(scope="module")
def predictor(files: dict[str, bytes]) -> TFTPredictor:
    return read_tft(files)


@pytest.fixture(scope="module")
def windows(split: SplitResult) -> np.ndarray:
    """The windows of the test part as they are."""
    whole = row_windows(split.test, feature_matrix(split.test, FEATURES), window=6, bar_ms=BAR_MS)
    return whole.at(np.flatnonzero(whole.complete))


def test_batches_are_those_of_pytorch_forecastings_own_dataset_and_loader(data: TFTData) -> None:
    rows = data.validation[:40]
    theirs, their_targets = next(iter(time_series_dataset(data, rows).to_dataloader(train=False, batch_size=40)))
    ours, our_targets = next(iter(Batches(data, rows, 40, 40, train=False)))
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name
    assert torch.equal(our_targets[0], their_targets[0])
    assert our_targets[1] is their_targets[1] is None


@pytest.mark.filterwarnings("ignore:Attribute '(loss|logging_metrics)' is an instance of:UserWarning")
def test_the_network_is_the_librarys_and_what_is_done_differently_in_it_changes_nothing(
    data: TFTData, trained: TrainedTFT, files: Mapping[str, bytes]
) -> None:
    plain = TemporalFusionTransformer.from_dataset(
        time_series_dataset(data, data.train[:4]),
        hidden_size=4,
        hidden_continuous_size=4,
        attention_head_size=2,
        loss=QuantileLoss(list(QUANTILE_LEVELS)),
        output_size=len(QUANTILE_LEVELS),
        logging_metrics=torch.nn.ModuleList(),
    ).eval()
    plain.load_state_dict(load(files["tft.safetensors"]))
    inputs = next(iter(Batches(data, data.validation, 32, 32, train=False)))[0]
    with torch.no_grad():
        found, expected = (net(inputs)["prediction"] for net in (trained.network, plain))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)


def test_epochs_go_through_time_without_shuffling_and_between_each_other(data: TFTData) -> None:
    batches = Batches(data, data.train, 16, 48, train=True)
    assert len(batches) == 3
    order = {window.numpy().tobytes(): place for place, window in enumerate(_windows(data, data.train))}
    epochs = [
        [[order[window.numpy().tobytes()] for window in _joined(inputs)] for inputs, _ in batches] for _ in range(2)
    ]
    for epoch in epochs:
        assert all(batch == sorted(batch) for batch in epoch)
        assert all(batch[0] < 16 and batch[-1] > len(data.train) - 20 for batch in epoch)
    seen = [{place for batch in epoch for place in batch} for epoch in epochs]
    assert [len(places) for places in seen] == [48, 48]
    assert len(seen[0] & seen[1]) < 24


def _windows(data: TFTData, rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(data.windows.at(rows))


def _joined(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([inputs["encoder_cont"], inputs["decoder_cont"]], dim=1)


def test_a_planted_signal_is_found_and_every_epoch_is_reported(
    predictor: TFTPredictor, split: SplitResult, reports: list[EpochReport]
) -> None:
    whole = row_windows(split.test, feature_matrix(split.test, FEATURES), window=6, bar_ms=BAR_MS)
    rows = np.flatnonzero(whole.complete)
    found = classification_metrics(predictor.predict(whole.at(rows)), split.test["label"].to_numpy()[rows] * 1.0)
    assert found["auc"] > 0.7
    assert [report.epoch for report in reports] == list(range(1, len(reports) + 1))
    best = min(reports, key=lambda report: report.validation_loss)
    configuration = predictor.configuration
    assert (configuration.best_epoch, configuration.validation_loss) == (best.epoch, best.validation_loss)
    assert configuration.epochs == len(reports)


def test_training_ends_when_the_validation_loss_no_longer_falls(split: SplitResult) -> None:
    patient = PROFILE.model_copy(update={"epochs": 9, "patience": 1, "learning_rate": 1.0})
    ended = train(split, patient)
    assert len(ended.epochs) < 9
    assert ended.configuration.best_epoch < len(ended.epochs)


def test_two_trainings_give_the_same_bytes_and_two_threads_stay_within_the_tolerance(
    split: SplitResult, files: Mapping[str, bytes], windows: np.ndarray
) -> None:
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.manual_seed(99)
    assert tft_files(train(split, PROFILE)) == files
    one, two = (read_tft(tft_files(train(split, HASTY, threads=threads))).predict(windows) for threads in (1, 2))
    difference = np.abs(one - two)
    assert difference.max() <= TFT_REBUILD_TOLERANCE
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, False)
    torch.random.set_rng_state(state)


def test_another_seed_gives_another_network(split: SplitResult) -> None:
    one, other = (train(split, HASTY, seed=seed).network.state_dict()["output_layer.weight"] for seed in (1, 2))
    assert not torch.equal(one, other)


def test_serving_and_torch_agree_on_windows_as_they_are(
    trained: TrainedTFT, predictor: TFTPredictor, windows: np.ndarray
) -> None:
    scaled = torch.from_numpy(predictor.configuration.network_input(windows))
    with torch.no_grad():
        in_volatilities = trained.network(network_inputs(scaled))["prediction"][:, 0].double().numpy()
    expected_move = windows[:, -1, 1] * HORIZON**0.5
    found = predictor.quantiles(windows)
    assert found.shape == (len(windows), len(QUANTILE_LEVELS))
    assert (np.diff(found, axis=1) >= 0.0).all()
    np.testing.assert_allclose(
        found / expected_move[:, np.newaxis], np.sort(in_volatilities, axis=1), rtol=0.0, atol=EXPORT_TOLERANCE
    )
    np.testing.assert_allclose(
        predictor.volatility(windows), (found[:, 5] - found[:, 1]) / (2 * 1.2815515655446004), rtol=1e-9
    )


def test_a_window_alone_has_the_bits_of_a_row_by_row_run_and_nearly_those_of_a_batch(
    files: Mapping[str, bytes], predictor: TFTPredictor, windows: np.ndarray
) -> None:
    one_by_one = read_tft(files, rows_per_run=1).predict(windows)
    alone = np.concatenate([predictor.predict(windows[place : place + 1]) for place in range(len(windows))])
    assert np.array_equal(alone, one_by_one)
    np.testing.assert_allclose(predictor.predict(windows), alone, rtol=0.0, atol=1e-6)
    assert predictor.predict(windows[:0]).shape == (0,)


@pytest.mark.parametrize("spoil", [lambda w: w[:, 1:], lambda w: w[0], lambda w: np.where(w == w[0, 0, 0], np.nan, w)])
def test_a_window_that_is_not_whole_gets_no_forecast(
    predictor: TFTPredictor, windows: np.ndarray, spoil: Callable[[np.ndarray], np.ndarray]
) -> None:
    with pytest.raises(MissingFeatureError, match="Expected windows of 6 bars"):
        predictor.predict(spoil(windows))


def test_damaged_files_are_refused(files: Mapping[str, bytes]) -> None:
    configuration = json.loads(files["tft.json"])
    damaged: list[dict[str, bytes]] = [
        {"tft.json": files["tft.json"]},
        {**files, "tft.onnx": b""},
        {**files, "tft.onnx": b"\x08\x08 no network"},
        {**files, "tft.onnx": files["tft.onnx"][:2000]},
        {**files, "tft.json": b"{}"},
        {**files, "tft.json": b"\xff"},
    ]
    profile = {**configuration["profile"], "window": 7}
    changes: list[dict[str, object]] = [
        {"profile": profile},
        {"levels": [0.5, 0.1]},
        {"levels": [0.1, 0.9]},
        {"volatility_feature": "other"},
        {"spreads": [1.0, 1.0]},
        {"spreads": [0.0, 1.0, 1.0]},
        {"unknown": 1},
    ]
    damaged += [{**files, "tft.json": json.dumps({**configuration, **change}).encode()} for change in changes]
    for content in damaged:
        with pytest.raises(BundleError, match="Fetch the model from the registry again, or train it again"):
            read_tft(content)


def test_an_export_that_differs_is_refused(split: SplitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = train(split, seed=1), train(split, seed=2)
    network = tft_files(first)["tft.onnx"]
    monkeypatch.setattr(export, "_onnx", lambda *_: network)
    with pytest.raises(BundleError, match="within 1e-05, was"):
        tft_files(second)


def test_nothing_later_moves_the_scaler_the_windows_or_the_targets(split: SplitResult, data: TFTData) -> None:
    random = np.random.default_rng(0)
    count = split.train.height
    for words, change in ROW_CHANGES.items():
        if words == "cut off":
            continue
        # Invented rows repeat symbols and times that are there.
        later = change(split.validation, random).unique(["symbol", "ts"], keep="last", maintain_order=True)
        other = tft_data(split.train, later, FEATURES, horizon_bars=HORIZON, window=6, bar_ms=BAR_MS)
        assert other.scaler == data.scaler, words
        assert np.array_equal(other.train, data.train), words
        assert np.array_equal(other.windows.at(other.train), data.windows.at(data.train)), words
        assert np.array_equal(other.targets[:count], data.targets[:count]), words


def test_targets_are_no_inputs_and_the_dataset_fits_nothing_on_them(data: TFTData) -> None:
    wild = replace(data, targets=data.targets * 1000.0 + 7.0)
    rows = data.train[:20]
    ours, theirs = (time_series_dataset(one, rows) for one in (data, wild))
    assert ours.target_normalizer.get_parameters().tolist() == theirs.target_normalizer.get_parameters().tolist()
    batches = [next(iter(dataset.to_dataloader(train=False, batch_size=20)))[0] for dataset in (ours, theirs)]
    for name in ("encoder_cont", "decoder_cont", "target_scale"):
        assert torch.equal(batches[0][name], batches[1][name]), name
    # What the library does by default, and issue 1112 is about: the scale of a group knows its future targets.
    default = [GroupNormalizer(groups=["segment"]).fit(pd_series, groups) for pd_series, groups in _groups(data, wild)]
    assert default[0].norm_.to_numpy().tolist() != default[1].norm_.to_numpy().tolist()


def _groups(*data: TFTData) -> list[tuple[object, object]]:
    import pandas as pd

    return [(pd.Series(one.targets), pd.DataFrame({"segment": np.repeat("one", len(one.targets))})) for one in data]


def weights_of(split: SplitResult) -> Fingerprints:
    trained = train(split)
    weights = b"".join(value.numpy().tobytes() for value in trained.network.state_dict().values())
    return {"weights": weights, "configuration": trained.configuration.model_dump_json().encode()}


def weights_with_a_normaliser_of_all_targets(split: SplitResult) -> Fingerprints:
    """The mistake of issue 1112: targets divided by a statistic that knows those of later rows."""
    scale = float(np.std(pl.concat(list(split.parts.values()))["forward_return"].to_numpy()))
    return weights_of(
        split.with_parts(
            {part: split.parts[part].with_columns(pl.col("forward_return") / scale) for part in ("train", "validation")}
        )
    )


def test_the_leak_attack_passes_the_training_and_catches_a_normaliser_fitted_on_later_targets(
    split: SplitResult,
) -> None:
    name, random = "model_ignores_later_rows", np.random.default_rng(3)
    honest = attack_fit(name, weights_of, split, "validation", random)
    assert honest.passed, honest
    leaking = attack_fit(name, weights_with_a_normaliser_of_all_targets, split, "validation", random)
    assert not leaking.passed


def test_the_leak_attack_passes_the_forecasts(split: SplitResult, files: Mapping[str, bytes]) -> None:
    alone = read_tft(files, rows_per_run=1)

    def forecast(rows: pl.DataFrame) -> pl.DataFrame:
        windows = row_windows(rows, feature_matrix(rows, FEATURES), window=6, bar_ms=BAR_MS)
        whole = rows.filter(pl.Series(windows.complete))
        probabilities = alone.predict(windows.at(np.flatnonzero(windows.complete)))
        return whole.select("symbol", "ts", "known_at", prob_up=pl.Series(probabilities))

    times = split.test["known_at"].dt.epoch("ms").unique().sort()
    found = attack_forecasts(forecast, split.test, [times[len(times) // 2]], np.random.default_rng(1))
    assert found.passed, found


def test_targets_are_in_units_of_what_volatility_lets_expect_and_clipped() -> None:
    found = scaled_targets(np.array([0.02, -0.02, 1.0, 0.0]), np.array([0.005, 0.005, 0.005, 0.0]), 4)
    assert found.tolist() == [2.0, -2.0, 10.0, 0.0]


def rows_with(**columns: pl.Expr) -> SplitResult:
    return chronological_split(make_rows().with_columns(**columns))


@pytest.mark.parametrize(
    ("split_of", "kind", "message"),
    [
        (lambda: rows_with(label=pl.lit(1, pl.Int8)), DataQualityError, "both classes in the train part"),
        (lambda: rows_with(rsi_14=pl.lit(float("nan"))), MissingFeatureError, "was not so for rsi_14"),
        (lambda: rows_with(rsi_14=pl.lit(float("inf"))), MissingFeatureError, "was not so for rsi_14"),
        (lambda: chronological_split(make_rows(30)), DataQualityError, "none in validation"),
        (
            lambda: chronological_split(make_rows().gather_every(2)),
            DataQualityError,
            "windows of 6 successive bars in every part, was none in train and validation",
        ),
    ],
)
def test_bad_rows_are_refused_by_name(
    split_of: Callable[[], SplitResult], kind: type[LevibotError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        train(split_of())


def test_a_training_that_diverges_is_refused(split: SplitResult) -> None:
    with pytest.raises(DataQualityError, match="Expected a finite loss, was none after 0 epochs"):
        train(split, PROFILE.model_copy(update={"learning_rate": 1e30}))


def test_features_without_a_volatility_are_refused(split: SplitResult) -> None:
    with pytest.raises(ConfigurationError, match="Expected one of realized_volatility_288"):
        tft_data(split.train, split.validation, ["rsi_14"], horizon_bars=1, window=6, bar_ms=BAR_MS)


def test_a_feature_that_never_changes_is_harmless(split: SplitResult) -> None:
    constant = {part: rows.with_columns(rsi_14=pl.lit(50.0)) for part, rows in split.parts.items()}
    assert np.isfinite(train(split.with_parts(constant)).configuration.validation_loss)


def test_profiles_are_whole_and_refuse_what_they_do_not_know() -> None:
    full = TFT_PROFILES["full"]
    assert (full.hidden_size, full.lstm_layers, full.window, full.patience) == (64, 2, 60, 10)
    assert TFT_PROFILES["fast"].window == 24
    for change in ({"layers": 3}, {"attention_heads": 3}, {"dropout": 1.0}):
        with pytest.raises(ValidationError):
            TFTProfile(**{**full.model_dump(), **change})


def test_every_feature_of_the_network_is_in_the_registry() -> None:
    assert set(TFT_FEATURES) <= set(load_registry("v2").names)


def test_predicting_needs_neither_torch_nor_a_data_frame_library() -> None:
    code = (
        "import sys, levibot_core.models.tft.predictor, levibot_core.models.tft.windows; "
        "sys.exit(sum(name in sys.modules for name in "
        "('torch', 'lightning', 'pytorch_forecasting', 'onnx', 'onnxruntime', 'pandas', 'polars', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_untrained_network_differs_by_seed_alone(data: TFTData) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        one = build_network(data, HASTY).state_dict()
        torch.manual_seed(4)
        other = build_network(data, HASTY).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
