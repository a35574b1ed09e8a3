"""Realised volatility ahead: the volatility head against HAR-RV and EWMA, by QLIKE on rows nothing was fitted on.

BTC, ETH and SOL, 5-minute candles of 2025, one walk-forward split per horizon: the head is trained on the train part
and stopped on the validation part, the baselines are fitted on both. The adaptive conformal interval of the return
runs over the calibration part and on over the test part. Everything on one thread; `--runs` is the number of seeds.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from benchmarks.harness import Outcome
from benchmarks.market import TIMEFRAME, market_data_folder
from benchmarks.report import Claim, Figure, Options, Report, parse_options, publish, run
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import load_registry, newest_version
from levibot_core.labels.direction import direction_labels
from levibot_core.labels.volatility import realized_volatility
from levibot_core.market.sources.recorded import RecordedSource
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.models.block_bootstrap import BlockBootstrap
from levibot_core.models.conformal import AdaptiveConformal, conformity_scores
from levibot_core.models.conformal_coverage import coverage_report
from levibot_core.models.design import design_matrix
from levibot_core.models.volatility_baselines import DiurnalPattern, HarModel, bar_returns, ewma_volatility, qlike
from levibot_core.models.volatility_fitting import MAX_ROUNDS, train_volatility
from levibot_core.validation.split import SplitResult, chronological_split

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
START_MS = 1_735_689_600_000
"""2025-01-01, UTC."""
END_MS = 1_750_204_800_000
"""2025-06-18, UTC: the recordings end with the bar before."""
QUICK_START_MS = END_MS - 45 * MILLISECONDS_PER_DAY
FUNDING_BEFORE_MS, FEAR_GREED_BEFORE_MS = 7 * MILLISECONDS_PER_DAY, 60 * MILLISECONDS_PER_DAY
HORIZONS = (5, 12, 48)
BARS_PER_DAY = MILLISECONDS_PER_DAY // TIMEFRAME.milliseconds
HOUR_DAY_WEEK = (BARS_PER_DAY // 24, BARS_PER_DAY, 7 * BARS_PER_DAY)
QUICK_ROUNDS = 40
PEERS = ("har_rv", "har_rv_diurnal", "ewma", "ewma_diurnal")


@dataclass(frozen=True, slots=True)
class Recording:
    """Candles, and their features of the newest set without rows that lack one."""

    candles: pl.DataFrame
    features: pl.DataFrame
    names: tuple[str, ...]


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=1)
    recording = read_recording(QUICK_START_MS if options.quick else START_MS)
    found = {f"{horizon} bars": measure(recording, horizon, options) for horizon in HORIZONS}
    ours = {case: outcomes.pop("ours") for case, outcomes in found.items()}
    peers = {peer: {case: outcomes[peer] for case, outcomes in found.items()} for peer in PEERS}
    publish(
        Report(
            name="volatility_models",
            about=f"volatility over the next bars, {recording.features.height:,} rows of {', '.join(SYMBOLS)}",
            ours=ours,
            peers=peers,
            ratio={
                peer: {case: round(outcome["qlike"] / ours[case]["qlike"], 3) for case, outcome in cases.items()}
                for peer, cases in peers.items()
            },
            claims=[
                Claim(
                    f"{case}: QLIKE beside {peer}'s, upper end of the 95 % interval",
                    peers[peer][case]["difference_upper_95_percent"],
                    0.0,
                    at_least=False,
                    unit="%",
                )
                for case in found
                for peer in ("har_rv", "ewma")
            ]
            + [
                Claim(f"{case}: 90 % interval of the return, test rows covered", share, 0.88, at_least=True, unit="")
                for case, share in ((case, ours[case]["coverage"]["test"]["coverage"]) for case in found)
            ],
            figures=[
                Figure("qlike", "1"),
                Figure("log_rmse", "1"),
                Figure("log_correlation", "1"),
                Figure("difference_percent", "%"),
                Figure("difference_upper_95_percent", "%"),
                Figure("seconds", "s"),
            ],
        ),
        options,
    )


def read_recording(start_ms: int) -> Recording:
    """Candles from `start_ms` on and their features."""
    source, feature_set = RecordedSource(market_data_folder()), load_registry(newest_version())
    candles = pl.concat(source.candles(symbol, "spot", TIMEFRAME, start_ms, END_MS) for symbol in SYMBOLS)
    funding = pl.concat(source.funding_rates(symbol, start_ms - FUNDING_BEFORE_MS, END_MS + 1) for symbol in SYMBOLS)
    fear_greed = source.fear_greed(start_ms - FEAR_GREED_BEFORE_MS, END_MS)
    features = compute_features(candles, funding, feature_set, TIMEFRAME, fear_greed=fear_greed)
    whole = features.filter(pl.all_horizontal(pl.col(feature_set.names).is_finite()))
    return Recording(candles, whole, feature_set.names)


def measure(recording: Recording, horizon: int, options: Options) -> dict[str, Outcome]:
    """The outcome of every contestant at one horizon."""
    labels = realized_volatility(recording.candles, TIMEFRAME, horizon).filter(pl.col("realized_volatility") > 0)
    returns = direction_labels(recording.candles, TIMEFRAME, horizon).select("symbol", "ts", "forward_return")
    rows = recording.features.join(labels, on=["symbol", "ts"]).join(returns, on=["symbol", "ts"])
    split = chronological_split(rows.sort("symbol", "ts"))
    forecasts, seconds = baselines(recording.candles, labels, split, horizon)
    test = split.test.join(forecasts, on=["symbol", "ts"], how="left", maintain_order="left")
    realized, known_at_ms = test["realized_volatility"].to_numpy(), test["known_at"].dt.epoch("ms").to_numpy()
    bootstrap = BlockBootstrap(known_at_ms, horizon * TIMEFRAME.milliseconds, seed=0)

    runs = [train_head(recording.names, split, horizon, seed, options.quick) for seed in range(options.runs)]
    first = runs[0]
    ours_loss = qlike(realized, first.forecast["test"])
    outcomes: dict[str, Outcome] = {
        "ours": {
            **scores(realized, first.forecast["test"]),
            "qlike_by_seed": [float(qlike(realized, each.forecast["test"]).mean()) for each in runs],
            "rounds": first.rounds,
            "seconds": first.seconds,
            "coverage": coverage(split, first),
        }
    }
    for peer in PEERS:
        loss = qlike(realized, test[peer].to_numpy())
        difference, per_cent = bootstrap.mean(ours_loss - loss), 100.0 / float(loss.mean())
        outcomes[peer] = {
            **scores(realized, test[peer].to_numpy()),
            "seconds": seconds[peer],
            "difference": difference.value,
            "difference_lower_95": difference.lower_95,
            "difference_upper_95": difference.upper_95,
            "difference_percent": difference.value * per_cent,
            "difference_upper_95_percent": difference.upper_95 * per_cent,
        }
    return outcomes


@dataclass(frozen=True, slots=True)
class HeadRun:
    """One trained head: its forecasts of the calibration and the test part, its trees, and how long it took."""

    forecast: dict[str, np.ndarray]
    rounds: int
    seconds: float


def train_head(names: tuple[str, ...], split: SplitResult, horizon: int, seed: int, quick: bool) -> HeadRun:
    """Train one head."""
    matrix = {part: design_matrix(rows, names, SYMBOLS) for part, rows in split.parts.items()}
    train, validation = (
        (matrix[part], split.parts[part]["realized_volatility"].to_numpy()) for part in ("train", "validation")
    )
    begin = perf_counter()
    trained = train_volatility(
        train, validation, names, horizon, seed, max_rounds=QUICK_ROUNDS if quick else MAX_ROUNDS
    )
    seconds = perf_counter() - begin
    head = trained.head()
    return HeadRun({part: head.predict(matrix[part]) for part in ("calibration", "test")}, trained.rounds, seconds)


def scores(realized: np.ndarray, forecast: np.ndarray) -> Outcome:
    """Mean QLIKE, and the errors of the logarithm."""
    logs, forecast_logs = np.log(realized), np.log(forecast)
    return {
        "qlike": float(qlike(realized, forecast).mean()),
        "log_rmse": float(np.sqrt(np.mean((logs - forecast_logs) ** 2))),
        "log_correlation": float(np.corrcoef(logs, forecast_logs)[0, 1]),
    }


def coverage(split: SplitResult, trained: HeadRun) -> dict[str, Any]:
    """Coverage of the online interval on the calibration and test part, and of the one that the bundle would keep."""
    conformal = AdaptiveConformal()
    found: dict[str, Any] = {}
    for part in ("calibration", "test"):
        rows = split.parts[part]
        known_at_ms, label_end_ms = (rows[name].dt.epoch("ms").to_numpy() for name in ("known_at", "label_end"))
        returns = rows["forward_return"].to_numpy()
        if part == "test":
            lower, upper = conformal.interval().apply(trained.forecast[part])
            found["kept"] = float(np.mean((lower <= returns) & (returns <= upper)))
            found["quantile"] = conformal.interval().quantile
        answered = conformal.run(conformity_scores(returns, trained.forecast[part]), known_at_ms, label_end_ms)
        report = coverage_report(answered, known_at_ms)
        found[part] = {
            "coverage": report.coverage,
            "worst_week": report.worst_week.coverage,
            "worst_month": report.worst_month.coverage,
        }
        conformal.settle()
    return found


def baselines(
    candles: pl.DataFrame, labels: pl.DataFrame, split: SplitResult, horizon: int
) -> tuple[pl.DataFrame, dict[str, float]]:
    """Forecasts of every baseline at every bar, fitted on what ended before the calibration part, and seconds taken."""
    until_ms = split.boundaries["calibration"]
    fitted_on = labels.filter(pl.col("label_end").dt.epoch("ms") <= until_ms)
    parts, seconds = [], dict.fromkeys(PEERS, 0.0)
    for own in candles.sort("symbol", "ts").partition_by("symbol", maintain_order=True):
        bars = own.select("symbol", "ts", "close").join(
            fitted_on.select("symbol", "ts", "realized_volatility"), on=["symbol", "ts"], how="left"
        )
        columns = {}
        for name, make in baselines_of(bars, until_ms, horizon).items():
            begin = perf_counter()
            columns[name] = pl.Series(make())
            seconds[name] += perf_counter() - begin
        parts.append(bars.select("symbol", "ts").with_columns(**columns))
    return pl.concat(parts), seconds


def baselines_of(bars: pl.DataFrame, until_ms: int, horizon: int) -> dict[str, Callable[[], np.ndarray]]:
    """What makes each baseline's forecasts of one symbol; `realized_volatility` is null where nothing may be fitted."""
    opens = bars["ts"].dt.epoch("ms").to_numpy()
    returns = bar_returns(opens, bars["close"].to_numpy(), TIMEFRAME.milliseconds)
    realized = bars["realized_volatility"].fill_null(np.nan).to_numpy()
    place = (opens % MILLISECONDS_PER_DAY) // TIMEFRAME.milliseconds
    past = opens + TIMEFRAME.milliseconds <= until_ms
    pattern = DiurnalPattern.fit(returns[past], place[past], BARS_PER_DAY)
    even, ahead = returns / pattern.factors[place], pattern.ahead(place, horizon)

    def har(these: np.ndarray, volatility: np.ndarray) -> np.ndarray:
        return HarModel.fit(these, volatility, HOUR_DAY_WEEK, horizon).predict(these)

    return {
        "har_rv": lambda: har(returns, realized),
        "har_rv_diurnal": lambda: ahead * har(even, realized / ahead),
        "ewma": lambda: ewma_volatility(returns, horizon),
        "ewma_diurnal": lambda: ahead * ewma_volatility(even, horizon),
    }


if __name__ == "__main__":
    sys.exit(run(main))
