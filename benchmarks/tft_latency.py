"""How long one forecast of the transformer takes on one thread, its window included, side by side with its library.

Ours reads the window of 60 bars from the online store and answers by ONNX Runtime; pytorch-forecasting's own network
of the same size is given the same bars as a DataFrame that is already in memory.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.harness import Contestant, Outcome, compare
from benchmarks.market import END_MS, TIMEFRAME
from benchmarks.redis_server import redis_server
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run, times_better
from levibot_core.config import ProfileName
from levibot_core.models.tft.features import TFT_FEATURES
from levibot_core.models.tft.profile import TFT_PROFILES
from levibot_core.schemas import TIMESTAMP

CALLS, QUICK_CALLS = 300, 30
PEER_CALLS, QUICK_PEER_CALLS = 60, 6
P95_LIMIT_MS = 40.0
RATIO_LIMIT = 5.0
BACKENDS = ("sqlite", "redis")
SIZES: tuple[ProfileName, ...] = ("fast", "full")


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=3)
    with tempfile.TemporaryDirectory() as folder, redis_server() as port:
        for size in SIZES:
            _write_model(Path(folder) / size, size)
        calls = (QUICK_CALLS, QUICK_PEER_CALLS) if options.quick else (CALLS, PEER_CALLS)
        outcomes = compare(_contestants(folder, port, *calls), options.runs)
    publish(_report(outcomes), options)


def _write_model(folder: Path, size: ProfileName) -> None:
    """A network that has hardly been trained: what it answers does not matter here, only how large it is."""
    from levibot_core.models.tft.export import tft_files
    from levibot_core.models.tft.training import train_tft

    profile = TFT_PROFILES[size].model_copy(
        update={"epochs": 1, "limit_train_batches": 1, "batch_size": 32, "validation_windows": 32}
    )
    train, validation = _rows(200, END_MS), _rows(200, END_MS + 1000 * TIMEFRAME.milliseconds)
    trained = train_tft(
        train, validation, TFT_FEATURES, profile, horizon_bars=12, bar_ms=TIMEFRAME.milliseconds, seed=0
    )
    folder.mkdir()
    for name, content in tft_files(trained).items():
        (folder / name).write_bytes(content)


def _rows(bars: int, start_ms: int) -> pl.DataFrame:
    random = np.random.default_rng(start_ms)
    returns = random.normal(0.0, 1e-3, bars)
    ts = pl.Series(start_ms + TIMEFRAME.milliseconds * np.arange(bars)).cast(TIMESTAMP)
    frame = pl.DataFrame(random.lognormal(0.0, 0.3, (bars, len(TFT_FEATURES))), schema=list(TFT_FEATURES))
    return frame.with_columns(
        symbol=pl.lit("BTC/USDT"), ts=ts, forward_return=pl.Series(returns), label=pl.Series(returns > 0).cast(pl.Int8)
    )


def _contestants(folder: str, port: int, calls: int, peer_calls: int) -> list[Contestant]:
    contestants = []
    for size in SIZES:
        model = str(Path(folder) / size)
        for backend in BACKENDS:
            arguments = {
                "model": model,
                "folder": folder,
                "redis_url": f"redis://127.0.0.1:{port}/0" if backend == "redis" else None,
                "calls": calls,
            }
            contestants.append(Contestant(f"ours_{size}_{backend}", "benchmarks.ours.tft_forecast", arguments))
        peer = {"model": model, "calls": peer_calls}
        contestants.append(Contestant(f"peer_{size}", "benchmarks.peers.pytorch_forecasting_predict", peer))
    return contestants


def _report(outcomes: dict[str, Outcome]) -> Report:
    cases = {f"{size}_{backend}": size for size in SIZES for backend in BACKENDS}
    ours = {case: outcomes[f"ours_{case}"] for case in cases}
    peers: dict[str, Outcome] = {size: outcomes[f"peer_{size}"] for size in SIZES}
    ratio = {
        case: times_better(ours[case], peers[size], "p50_ms", more_is_better=False) for case, size in cases.items()
    }
    claims = []
    for case in cases:
        text = case.replace("_", ", window from ")
        claims += [
            Claim(f"{text}, 95 of 100 forecasts", ours[case]["p95_ms"], P95_LIMIT_MS, at_least=False, unit="ms"),
            Claim(f"{text}, median against predict(DataFrame)", ratio[case], RATIO_LIMIT, at_least=True, unit="x"),
        ]
    sizes = " and ".join(str(TFT_PROFILES[size].hidden_size) for size in SIZES)
    window = TFT_PROFILES["full"].window
    return Report(
        name="tft_latency",
        about=f"one forecast from {window} bars of {len(TFT_FEATURES)} features by networks of width {sizes}",
        ours=ours,
        peers={"pytorch_forecasting": peers},
        ratio={"pytorch_forecasting": ratio},
        claims=claims,
        figures=[Figure("p50_ms", "ms"), Figure("p95_ms", "ms"), Figure("peak_memory_mb", "MB")],
    )


if __name__ == "__main__":
    sys.exit(run(main))
