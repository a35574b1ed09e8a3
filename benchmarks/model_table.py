"""Every model walk-forward over 2025, 5, 12 and 48 bars ahead, beside what it has to beat.

BTC, ETH and SOL, 5-minute candles, 16 blocks of 6.75 days from 2 March 2025 on. Ours are trained on all that was known
before a block, the recordings of 2022 and 2023 among it, and calibrated on their own earlier forecasts; the five
features and the momentum's sign see the 60 days before a block and are taken as they come. `--runs` is the number of
seeds. Costs are 20 basis points a side.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from benchmarks.forecasters import base_rate, boosted, five_features_by_default, momentum_sign
from benchmarks.harness import Outcome
from benchmarks.market import END_MS as HISTORY_END_MS
from benchmarks.market import START_MS as HISTORY_START_MS
from benchmarks.market import TIMEFRAME
from benchmarks.report import Claim, Figure, Options, Report, parse_options, publish, run
from benchmarks.walk_forward import Entry, Period, every, labelled, read_features, walk_forward
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.models.block_bootstrap import BlockBootstrap
from levibot_core.models.calibration import logit, sigmoid
from levibot_core.models.metric_intervals import metric_intervals
from levibot_core.models.metrics import log_losses
from levibot_core.models.predictors import LIGHTGBM, XGBOOST
from levibot_core.models.trial_returns import ROUND_TRIP_COST, PolicyRows, daily_returns, sharpe_per_day
from levibot_core.validation.deflated_sharpe import deflate
from levibot_core.validation.purged import PurgedWalkForward

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
HORIZONS = (5, 12, 48)
NOW = Period(SYMBOLS, 1_735_689_600_000, 1_750_204_800_000)
HISTORY = Period(("ADA/USDT", "BTC/USDT", "ETH/USDT", "LTC/USDT"), HISTORY_START_MS, HISTORY_END_MS)
"""Of the symbols recorded in 2022 and 2023, those with funding rates: a row that lacks a feature is left out."""
BLOCK_MS = 27 * MILLISECONDS_PER_DAY // 4
EARLIER_BLOCKS, BLOCKS = 6, 16
DAYS_PER_YEAR = 365
EVERY_BARS, HISTORY_EVERY_BARS = 4, 16
MOST_CONFIDENT = (0.05, 0.01)
# Area under the curve of the best of what others start from, on the same candles, 60 days to train, 7 to test.
BEST_AREA_OF_OTHERS = {5: 0.518, 12: 0.510, 48: 0.522}
ENTRIES: Mapping[str, Entry] = {
    "lightgbm": Entry(boosted(LIGHTGBM), None, calibrated=True),
    "xgboost": Entry(boosted(XGBOOST), None, calibrated=True),
    "lightgbm_60_days": Entry(boosted(LIGHTGBM), 60, calibrated=True),
    "five_features": Entry(five_features_by_default, 60, calibrated=False),
    "momentum_sign": Entry(momentum_sign, 60, calibrated=False),
    "always_up": Entry(base_rate, 60, calibrated=False),
}
OURS = ("lightgbm", "xgboost", "ensemble", "lightgbm_60_days")


@dataclass(frozen=True, slots=True)
class Table:
    """Forecasts of every contestant at one horizon, one frame per seed."""

    forecasts: dict[str, list[pl.DataFrame]]
    seconds: dict[str, float]


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=1)
    now, history = read_features(NOW), read_features(_shortened(HISTORY) if options.quick else HISTORY)
    outcomes: dict[str, dict[str, Outcome]] = {}
    for horizon in HORIZONS[:1] if options.quick else HORIZONS:
        rows, older = labelled(*now, horizon), every(labelled(*history, horizon), HISTORY_EVERY_BARS)
        table = forecast_all(rows, older, horizon, options)
        outcomes[f"{horizon} bars"] = score_all(table, horizon)
    publish(_report(outcomes), options)


def forecast_all(rows: pl.DataFrame, history: pl.DataFrame, horizon: int, options: Options) -> Table:
    """Forecasts of every contestant, and the mean of our two families' log-odds as a first ensemble."""
    whole = EARLIER_BLOCKS + BLOCKS
    # A whole number of blocks that ends with the rows; what is before them is trained on only.
    first_ms = NOW.end_ms - NOW.start_ms - whole * BLOCK_MS
    splitter = PurgedWalkForward(train_span_ms=first_ms, test_span_ms=BLOCK_MS, window="expanding")
    symbols = tuple(sorted({*NOW.symbols, *HISTORY.symbols}))
    blocks = splitter.get_n_splits(rows["known_at"].dt.epoch("ms").to_numpy())
    scored_from = blocks - (2 if options.quick else BLOCKS)
    forecasts: dict[str, list[pl.DataFrame]] = {}
    seconds: dict[str, float] = {}
    for name, entry in ENTRIES.items():
        begin = perf_counter()
        seeded = name in OURS
        forecasts[name] = [
            walk_forward(
                rows, history, splitter, entry, symbols,
                scored_from=scored_from, every_bars=EVERY_BARS, seed=seed, name=f"{horizon} bars, {name}, seed {seed}",
            )
            for seed in range(options.runs if seeded else 1)
        ]  # fmt: skip
        seconds[name] = perf_counter() - begin
    forecasts["ensemble"] = [
        _mean_of_log_odds(*pair) for pair in zip(forecasts["lightgbm"], forecasts["xgboost"], strict=True)
    ]
    seconds["ensemble"] = 0.0
    return Table(forecasts, seconds)


def score_all(table: Table, horizon: int) -> dict[str, Outcome]:
    """Every contestant's scores on the same rows, with the spread over its seeds."""
    trials = np.array([_policy_returns(frame) for frames in table.forecasts.values() for frame in frames])
    outcomes: dict[str, Outcome] = {}
    for name, frames in table.forecasts.items():
        by_seed = [score(frame, horizon) for frame in frames]
        returns = _policy_returns(frames[0])
        deflated = deflate(returns, trials)
        outcomes[name] = {
            **by_seed[0],
            "auc_by_seed": [found["auc"] for found in by_seed],
            "log_loss_by_seed": [found["log_loss"] for found in by_seed],
            "sharpe": sharpe_per_day(returns) * DAYS_PER_YEAR**0.5,
            "deflated_sharpe": deflated.deflated if deflated else None,
            "days_traded": int(np.count_nonzero(returns)),
            "sharpe_of_every_forecast": sharpe_per_day(_always_in_the_market(frames[0])) * DAYS_PER_YEAR**0.5,
            "seconds": table.seconds[name],
        }
    return outcomes


def score(frame: pl.DataFrame, horizon: int) -> Outcome:
    """Scores of one set of forecasts; intervals are of 95 %, from blocks of days."""
    frame = frame.sort("known_at", "symbol")
    p, y = frame["prob_up"].to_numpy(), frame["label"].cast(pl.Float64).to_numpy()
    bootstrap = BlockBootstrap(
        frame["known_at"].dt.epoch("ms").to_numpy(), horizon * TIMEFRAME.milliseconds, seed=0, resamples=500
    )
    found = metric_intervals(p, y, bootstrap)
    against = bootstrap.mean(log_losses(p, y) - log_losses(frame["base_rate"].to_numpy(), y))
    right, order = (p > 0.5) == (y == 1.0), np.argsort(-np.abs(p - 0.5), kind="stable")
    return {
        **{name: found[name].value for name in ("auc", "log_loss", "ece", "ece_debiased")},
        "auc_lower_95": found["auc"].lower_95,
        "auc_upper_95": found["auc"].upper_95,
        "ece_lower_95": found["ece"].lower_95,
        "accuracy": float(right.mean()),
        **{
            f"accuracy_of_most_confident_{share:.0%}": float(right[order[: max(1, int(share * p.size))]].mean())
            for share in MOST_CONFIDENT
        },
        "rank_ic": float(spearmanr(p, frame["forward_return"].to_numpy()).statistic) if np.ptp(p) > 0 else 0.0,
        "against_base_rate_e4": against.value * 1e4,
        "against_base_rate_lower_95_e4": against.lower_95 * 1e4,
        "against_base_rate_upper_95_e4": against.upper_95 * 1e4,
        "rows": p.size,
    }


def _policy_returns(frame: pl.DataFrame) -> np.ndarray:
    """Daily returns after costs of acting where the edge pays, by each symbol's mean move so far."""
    return daily_returns(frame["prob_up"].to_numpy(), _policy_rows(frame))


def _always_in_the_market(frame: pl.DataFrame) -> np.ndarray:
    """The same of acting on every forecast, whatever it costs."""
    sides = np.where(frame["prob_up"].to_numpy() > 0.5, 1.0, 0.0)
    rows = _policy_rows(frame)
    return daily_returns(sides, replace(rows, expected_moves=np.full(frame.height, 2.0 * ROUND_TRIP_COST)))


def _policy_rows(frame: pl.DataFrame) -> PolicyRows:
    codes = {symbol: code for code, symbol in enumerate(SYMBOLS)}
    return PolicyRows(
        symbols=np.array([codes[symbol] for symbol in frame["symbol"]], dtype=np.int64),
        decided_ms=frame["known_at"].dt.epoch("ms").to_numpy(),
        settled_ms=frame["label_end"].dt.epoch("ms").to_numpy(),
        forward_returns=frame["forward_return"].to_numpy(),
        expected_moves=frame["expected_move"].to_numpy(),
    )


def _mean_of_log_odds(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    odds = (logit(first["prob_up"].to_numpy()) + logit(second["prob_up"].to_numpy())) / 2.0
    return first.with_columns(prob_up=pl.Series(sigmoid(odds)))


def _shortened(period: Period) -> Period:
    return replace(period, start_ms=period.end_ms - 60 * MILLISECONDS_PER_DAY)


def _report(outcomes: Mapping[str, dict[str, Outcome]]) -> Report:
    claims = []
    for case, found in outcomes.items():
        best = found["lightgbm"]
        horizon = int(case.split()[0])
        claims += [
            Claim(f"{case}: AUC", best["auc"], BEST_AREA_OF_OTHERS[horizon], at_least=True, unit=""),
            Claim(f"{case}: log loss less the base rate's, 1e-4", best["against_base_rate_e4"], 0, False, ""),
            Claim(f"{case}: calibration error", best["ece"], 0.01, at_least=False, unit=""),
            Claim(f"{case}: Sharpe ratio after costs", best["sharpe"], 0.0, at_least=True, unit=""),
        ]
    clear = min(found["lightgbm"]["against_base_rate_upper_95_e4"] for found in outcomes.values())
    claims.append(Claim("upper end of the clearest interval of the log loss, 1e-4", clear, 0.0, False, ""))
    return Report(
        name="model_table",
        about="forecasts of BTC, ETH and SOL walk-forward over 2025, every score on the same untouched rows",
        ours={case: {name: found[name] for name in OURS} for case, found in outcomes.items()},
        peers={
            name: {case: found[name] for case, found in outcomes.items()}
            for name in ENTRIES
            if name not in OURS
        },
        ratio={},
        claims=claims,
        figures=[
            Figure(key, "")
            for key in (
                "auc", "accuracy", "log_loss", "against_base_rate_e4", "against_base_rate_upper_95_e4", "ece",
                "ece_debiased", "rank_ic", "accuracy_of_most_confident_5%", "accuracy_of_most_confident_1%", "sharpe",
                "sharpe_of_every_forecast",
            )
        ],
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(run(main))
