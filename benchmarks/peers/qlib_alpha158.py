"""Qlib's Alpha158 features by Qlib's own expression engine, over a local provider in Qlib's documented format.

The provider holds one little-endian float32 file per instrument and field: the position of the first value in the
calendar, then the values. The recordings have no traded value, so `vwap` is the typical price (H + L + C) / 3. Qlib
reads these files within the timed call (24 MB, from the page cache); its memory cache is emptied before each run.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import qlib
from qlib.contrib.data.loader import Alpha158DL
from qlib.data.cache import H
from qlib.data.dataset.loader import QlibDataLoader

from benchmarks.worker import Arguments, Task, serve

FREQUENCY = "5min"


def prepare(arguments: Arguments) -> Task:
    """Arguments: `folder` as `benchmarks.market.Market`; `processes` for Qlib's pool."""
    folder = Path(arguments["folder"])
    candles = pd.read_parquet(folder / "candles.parquet")
    provider = folder / "qlib"
    instruments = _write_provider(candles, provider)
    qlib.init(provider_uri={FREQUENCY: str(provider)}, kernels=int(arguments["processes"]), region="us")
    config = Alpha158DL.get_feature_config()
    features = len(config[0])
    return Task(
        run=lambda: QlibDataLoader(config={"feature": config}, freq=FREQUENCY).load(instruments),
        describe=lambda computed: {"rows": len(computed), "cells": len(computed) * features},
        reset=H.clear,
        facts={"features": features, "processes": int(arguments["processes"])},
        packages=("pyqlib", "pandas", "numpy"),
    )


def _write_provider(candles: pd.DataFrame, provider: Path) -> list[str]:
    """Write calendar, instruments and values; return the instruments' names."""
    times = pd.DatetimeIndex(candles["ts"]).tz_localize(None)
    calendar = pd.DatetimeIndex(np.sort(times.unique()))
    for name in ("calendars", "instruments"):
        (provider / name).mkdir(parents=True, exist_ok=True)
    (provider / "calendars" / f"{FREQUENCY}.txt").write_text("\n".join(calendar.astype(str)) + "\n", "utf-8")
    instruments, lines = [], []
    for symbol, rows in candles.groupby("symbol"):
        name = str(symbol).replace("/", "")
        positions = calendar.get_indexer(pd.DatetimeIndex(rows["ts"]).tz_localize(None))
        _write_fields(rows, positions, provider / "features" / name.lower())
        instruments.append(name)
        lines.append(f"{name}\t{calendar[positions[0]]}\t{calendar[positions[-1]]}")
    (provider / "instruments" / "all.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return instruments


def _write_fields(rows: pd.DataFrame, positions: np.ndarray, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fields = {name: rows[name].to_numpy() for name in ("open", "high", "low", "close", "volume")}
    fields["vwap"] = (fields["high"] + fields["low"] + fields["close"]) / 3.0
    for name, values in fields.items():
        on_calendar = np.full(positions[-1] - positions[0] + 1, np.nan)
        on_calendar[positions - positions[0]] = values
        content = np.concatenate(([positions[0]], on_calendar)).astype("<f4")
        content.tofile(folder / f"{name}.{FREQUENCY}.bin")


if __name__ == "__main__":
    serve(prepare)
