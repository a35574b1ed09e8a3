"""FreqAI's own example strategy through FreqAI's own feature pipeline, with the settings of its example configuration.

Those are indicator periods 10 and 20, two shifted candles, BTC and ETH as correlated pairs and three timeframes; the
smallest is 5m here, as the recordings have no 3m. The higher timeframes are resampled beforehand, as if they had been
downloaded, and a pair's features are released once they are counted.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.templates.FreqaiExampleStrategy import FreqaiExampleStrategy

from benchmarks.worker import Arguments, Task, serve

BASE = "5m"
TIMEFRAMES = {"5m": "5min", "15m": "15min", "1h": "1h"}
CORRELATED = ["BTC/USDT", "ETH/USDT"]
OHLCV: dict[Any, Any] = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}

Frames = dict[str, pd.DataFrame]


def prepare(arguments: Arguments) -> Task:
    """Arguments: `folder` as `benchmarks.market.Market`."""
    folder = Path(arguments["folder"])
    candles = pd.read_parquet(folder / "candles.parquet").rename(columns={"ts": "date"})
    pairs = {str(pair): _timeframes(rows) for pair, rows in candles.groupby("symbol")}
    config = _configuration(folder, candles["date"].min(), candles["date"].max())
    strategy = FreqaiExampleStrategy(config)
    kitchen = FreqaiDataKitchen(config)

    def populate() -> int:
        return sum(_cells(kitchen, strategy, pair, pairs) for pair in pairs)

    first_pair = next(iter(pairs))
    return Task(
        run=populate,
        describe=lambda cells: {"rows": len(candles), "cells": cells},
        facts={"features": _cells(kitchen, strategy, first_pair, pairs) // len(pairs[first_pair][BASE])},
        packages=("freqtrade", "ta-lib", "technical", "pandas", "numpy"),
    )


def _timeframes(rows: pd.DataFrame) -> Frames:
    base = rows[["date", *OHLCV]].reset_index(drop=True)
    indexed = base.set_index("date")
    return {
        name: base if name == BASE else indexed.resample(length).agg(OHLCV).dropna().reset_index()
        for name, length in TIMEFRAMES.items()
    }


def _cells(kitchen: FreqaiDataKitchen, strategy: FreqaiExampleStrategy, pair: str, pairs: dict[str, Frames]) -> int:
    populated: pd.DataFrame = kitchen.use_strategy_to_populate_indicators(
        strategy,
        corr_dataframes={other: dict(pairs[other]) for other in CORRELATED},
        base_dataframes=dict(pairs[pair]),
        pair=pair,
    )
    return len(populated) * sum(str(name).startswith("%") for name in populated.columns)


def _configuration(folder: Path, first: pd.Timestamp, last: pd.Timestamp) -> dict[str, Any]:
    file = folder / "freqai.json"  # FreqAI keeps a copy of the file that its settings came from
    file.write_text("{}", "utf-8")
    return {
        "config_files": [str(file)],
        "timeframe": BASE,
        "user_data_dir": folder,
        "timerange": f"{first:%Y%m%d}-{last:%Y%m%d}",
        "exchange": {"pair_whitelist": []},
        "freqai": {
            "identifier": "benchmark",
            "train_period_days": 5,
            "backtest_period_days": 5,
            "feature_parameters": {
                "include_timeframes": list(TIMEFRAMES),
                "include_corr_pairlist": CORRELATED,
                "indicator_periods_candles": [10, 20],
                "include_shifted_candles": 2,
            },
        },
    }


if __name__ == "__main__":
    serve(prepare)
