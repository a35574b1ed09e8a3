"""Alpha158 written as plain Polars expressions: lazy, one frame per symbol, rolling functions wherever there is one.

The definitions are those of Qlib's `Alpha158DL`; a window that is not full gives null, where Qlib takes what there is.
Polars has no rolling position of the maximum or minimum and no rolling regression: the first is the rolling extreme of
rank and row number packed into one integer, the second follows from rolling moments against the row number. What
several features share is computed first. `.over("symbol")` on one frame took as long.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from benchmarks.worker import Arguments, Task, serve

WINDOWS = (5, 10, 20, 30, 60)
EPSILON = 1e-12

OPEN, HIGH, LOW, CLOSE, VOLUME = (pl.col(name) for name in ("open", "high", "low", "close", "volume"))
VWAP = (HIGH + LOW + CLOSE) / 3.0
ROW, ROWS = pl.col("row"), pl.len().cast(pl.Int64)
HIGH_KEY, LOW_KEY = pl.col("high_key"), pl.col("low_key")
RISE, VOLUME_RISE, MOVED_VOLUME = (pl.col(name) for name in ("rise", "volume_rise", "moved_volume"))

SHARED = (
    # Of equal values the oldest counts, as in Qlib.
    (HIGH.rank("dense").cast(pl.Int64) * ROWS + (ROWS - 1 - ROW)).alias("high_key"),
    (LOW.rank("dense").cast(pl.Int64) * ROWS + ROW).alias("low_key"),
    (CLOSE - CLOSE.shift(1)).alias("rise"),
    (VOLUME - VOLUME.shift(1)).alias("volume_rise"),
    ((CLOSE / CLOSE.shift(1) - 1.0).abs() * VOLUME).alias("moved_volume"),
)


def prepare(arguments: Arguments) -> Task:
    """Arguments: `folder` as `benchmarks.market.Market`."""
    candles = pl.read_parquet(Path(arguments["folder"]) / "candles.parquet")
    return Task(
        run=lambda: alpha158(candles),
        describe=lambda computed: {"rows": computed.height, "cells": computed.height * (computed.width - 2)},
        facts={"features": len(expressions())},
        packages=("polars",),
    )


def alpha158(candles: pl.DataFrame) -> pl.DataFrame:
    """Symbol, ts and the 158 features, in the order of `candles`, which is sorted by symbol and ts."""
    features = expressions()
    frames = [
        rows.lazy()
        .with_columns(pl.int_range(pl.len()).alias("row"))
        .with_columns(*SHARED)
        .select("symbol", "ts", *features)
        for rows in candles.partition_by("symbol", maintain_order=True)
    ]
    return pl.concat(pl.collect_all(frames))


def expressions() -> list[pl.Expr]:
    """All 158 features."""
    return [*_bar_shape(), *_prices(), *(feature for window in WINDOWS for feature in _rolling(window))]


def _bar_shape() -> Iterator[pl.Expr]:
    length = HIGH - LOW + EPSILON
    upper = HIGH - pl.max_horizontal(OPEN, CLOSE)
    lower = pl.min_horizontal(OPEN, CLOSE) - LOW
    shift = 2.0 * CLOSE - HIGH - LOW
    yield ((CLOSE - OPEN) / OPEN).alias("KMID")
    yield ((HIGH - LOW) / OPEN).alias("KLEN")
    yield ((CLOSE - OPEN) / length).alias("KMID2")
    for name, part in (("KUP", upper), ("KLOW", lower), ("KSFT", shift)):
        yield (part / OPEN).alias(name)
        yield (part / length).alias(f"{name}2")


def _prices() -> Iterator[pl.Expr]:
    for name, price in (("OPEN0", OPEN), ("HIGH0", HIGH), ("LOW0", LOW), ("VWAP0", VWAP)):
        yield (price / CLOSE).alias(name)


def _rolling(window: int) -> Iterator[pl.Expr]:
    named = {
        **_levels(window),
        **_regression(window),
        **_extremes(window),
        **_correlations(window),
        **_counts(window),
        **_sums(window, RISE, ""),
        **_volumes(window),
        **_sums(window, VOLUME_RISE, "V"),
    }
    for name, expression in named.items():
        yield expression.alias(f"{name}{window}")


def _levels(window: int) -> dict[str, pl.Expr]:
    return {
        "ROC": CLOSE.shift(window) / CLOSE,
        "MA": CLOSE.rolling_mean(window) / CLOSE,
        "STD": CLOSE.rolling_std(window) / CLOSE,
        "QTLU": CLOSE.rolling_quantile(0.8, interpolation="linear", window_size=window) / CLOSE,
        "QTLD": CLOSE.rolling_quantile(0.2, interpolation="linear", window_size=window) / CLOSE,
        "RANK": CLOSE.rolling_rank(window, method="average") / window,
    }


def _regression(window: int) -> dict[str, pl.Expr]:
    row_variance = (window * window + window) / 12.0  # sample variance of `window` consecutive integers
    slope = pl.rolling_cov(CLOSE, ROW, window_size=window) / row_variance
    fitted_now = CLOSE.rolling_mean(window) + slope * (window - 1) / 2.0
    return {
        "BETA": slope / CLOSE,
        "RSQR": pl.rolling_corr(CLOSE, ROW, window_size=window) ** 2,
        "RESI": (CLOSE - fitted_now) / CLOSE,
    }


def _extremes(window: int) -> dict[str, pl.Expr]:
    highest, lowest = HIGH.rolling_max(window), LOW.rolling_min(window)
    oldest = ROW - window  # places in the window count from 1
    highest_at = ROWS - 1 - HIGH_KEY.rolling_max(window) % ROWS - oldest
    lowest_at = LOW_KEY.rolling_min(window) % ROWS - oldest
    return {
        "MAX": highest / CLOSE,
        "MIN": lowest / CLOSE,
        "RSV": (CLOSE - lowest) / (highest - lowest + EPSILON),
        "IMAX": highest_at / window,
        "IMIN": lowest_at / window,
        "IMXD": (highest_at - lowest_at) / window,
    }


def _correlations(window: int) -> dict[str, pl.Expr]:
    changes = CLOSE / CLOSE.shift(1), (VOLUME / VOLUME.shift(1) + 1.0).log()
    return {
        "CORR": pl.rolling_corr(CLOSE, (VOLUME + 1.0).log(), window_size=window),
        "CORD": pl.rolling_corr(*changes, window_size=window),
    }


def _counts(window: int) -> dict[str, pl.Expr]:
    ups, downs = ((RISE > 0.0).cast(pl.Float64), (RISE < 0.0).cast(pl.Float64))
    up_share, down_share = ups.rolling_mean(window), downs.rolling_mean(window)
    return {"CNTP": up_share, "CNTN": down_share, "CNTD": up_share - down_share}


def _sums(window: int, rise: pl.Expr, prefix: str) -> dict[str, pl.Expr]:
    gains = rise.clip(lower_bound=0.0).rolling_sum(window)
    losses = (-rise).clip(lower_bound=0.0).rolling_sum(window)
    moves = rise.abs().rolling_sum(window) + EPSILON
    return {
        f"{prefix}SUMP": gains / moves,
        f"{prefix}SUMN": losses / moves,
        f"{prefix}SUMD": (gains - losses) / moves,
    }


def _volumes(window: int) -> dict[str, pl.Expr]:
    return {
        "VMA": VOLUME.rolling_mean(window) / (VOLUME + EPSILON),
        "VSTD": VOLUME.rolling_std(window) / (VOLUME + EPSILON),
        "WVMA": MOVED_VOLUME.rolling_std(window) / (MOVED_VOLUME.rolling_mean(window) + EPSILON),
    }


if __name__ == "__main__":
    serve(prepare)
