"""Forecast one symbol as the API does: its window from the online store, its probability from ONNX Runtime."""

import time
from pathlib import Path

import numpy as np

from benchmarks.worker import Arguments, Task, call_times_ms, serve
from levibot_core.features.registry import load_registry, newest_version
from levibot_core.models.tft.predictor import read_tft
from levibot_core.stores.online import FeatureVector, open_online_store, require_history
from levibot_core.stores.paths import Home

_SYMBOL, _BAR_MS = "BTC/USDT", 300_000
_TTL_S = 3600.0  # vectors of a live market age; none may expire during a run


def prepare(arguments: Arguments) -> Task:
    """Arguments: `model` (folder of the files), `folder` and `redis_url` (None for SQLite) of the store, `calls`."""
    predictor = read_tft({path.name: path.read_bytes() for path in Path(arguments["model"]).iterdir()})
    store = open_online_store(Home.at(Path(arguments["folder"])), arguments["redis_url"], _TTL_S)
    store.put(_history())
    calls = int(arguments["calls"])

    def forecast() -> float:
        now_ms = time.time_ns() // 1_000_000
        history = require_history(
            store, _SYMBOL, predictor.features, predictor.window, bar_ms=_BAR_MS, now_ms=now_ms, max_age_ms=3_600_000
        )
        return float(predictor.predict(history.matrix(predictor.features)[np.newaxis])[0])

    if not 0.0 < forecast() < 1.0:
        raise SystemExit("Expected a probability.")
    return Task(
        run=lambda: call_times_ms(forecast, warm_up=calls // 10, timed=calls),
        describe=lambda times: {"samples_ms": times},
        facts={"features": len(predictor.features), "window": predictor.window},
        packages=("onnxruntime",),
    )


def _history() -> list[FeatureVector]:
    """64 bars of every feature of the platform's current set, the newest just closed."""
    version = newest_version()
    names = load_registry(version).names
    values = np.random.default_rng(0).lognormal(size=(64, len(names)))
    newest_ms = (time.time_ns() // 1_000_000 // _BAR_MS - 1) * _BAR_MS
    opened_ms = [newest_ms - _BAR_MS * before for before in reversed(range(64))]
    return [
        FeatureVector(
            _SYMBOL, ts_ms, ts_ms + _BAR_MS, version, "exchange", 1.0, dict(zip(names, row.tolist(), strict=True))
        )
        for ts_ms, row in zip(opened_ms, values, strict=True)
    ]


if __name__ == "__main__":
    serve(prepare)
