"""Every model walk-forward over 2025, and over 2022 and 2023, 5, 12 and 48 bars ahead, beside what it has to beat.

5-minute candles, 16 blocks of 6.75 days after six that only calibrators and ensembles learn from. 2025 has BTC, ETH and
SOL, 2022-2023 seven symbols. Ours are trained on all that was known and thinned, the recordings of 2022 and 2023 among
it for 2025, and trained anew every fourth block; the five features, the momentum's sign and the base rate see the 60
days before each block and are taken as they come. Costs are 20 basis points a side.

The transformer is the small one of profile `fast`, with fewer seeds. `--runs` is the number of seeds of the boosted
models. Scores of models are kept in a folder as they are made, so that an interrupted run goes on where it was.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.forecast_files import ForecastFiles
from benchmarks.forecasters import (
    FIVE_FEATURES,
    PARAMETERS,
    ROUNDS,
    always_up,
    base_rate,
    boosted,
    five_features_by_default,
    momentum_sign,
)
from benchmarks.harness import ROOT, Outcome
from benchmarks.model_scores import Outlook, facts, score_all
from benchmarks.model_tables import tables_of
from benchmarks.out_of_sample import SHARPE_VOTE, STACKING, calibrated, ensemble, rows_ahead
from benchmarks.periods import OLDER_EVERY_BARS, PERIODS, Recording, read_recording, shortened
from benchmarks.report import Claim, Options, Report, publish, run
from benchmarks.transformer import PROFILE, transformer
from benchmarks.walk_forward import BLOCK_MS, BLOCKS, Block, Entry, blocks_of, scores
from levibot_core.features.registry import load_registry, newest_version
from levibot_core.models.predictors import LIGHTGBM, XGBOOST

HORIZONS = (5, 12, 48)
MOST_SEEDS = 20
_QUICK_BLOCKS, _QUICK_COUNTED = 4, 2
MEMBERS = ("lightgbm", "xgboost", "transformer")
# Area under the curve of the best of what others start from, on the same candles, 60 days to train, 7 to test.
BEST_AREA_OF_OTHERS = {5: 0.518, 12: 0.510, 48: 0.522}
KEPT = ROOT / "benchmarks" / ".forecasts"
ENTRIES: Mapping[str, Entry] = {
    "lightgbm": Entry(boosted(LIGHTGBM), None, 4, True, MOST_SEEDS),
    "xgboost": Entry(boosted(XGBOOST), None, 4, True, MOST_SEEDS),
    "transformer": Entry(transformer, None, 8, True, 2),
    "lightgbm_60_days": Entry(boosted(LIGHTGBM), 60, 4, True, MOST_SEEDS),
    "five_features": Entry(five_features_by_default, 60, 1, False, 1),
    "momentum_sign": Entry(momentum_sign, 60, 1, False, 1),
    "base_rate": Entry(base_rate, 60, 1, False, 1),
    "always_up": Entry(always_up, 60, 1, False, 1),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for.

    Attributes:
        runs: Seeds of the boosted models.
        quick: Small inputs.
        periods: Names of `PERIODS`.
        horizons: Bars ahead.
        models: Names of `ENTRIES`.
        forecasts: Where scores are kept; None keeps none.
        kept_only: Nothing is trained; what was not forecast for all blocks is left out.
    """

    runs: int
    quick: bool
    periods: Sequence[str]
    horizons: Sequence[int]
    models: Sequence[str]
    forecasts: Path | None
    kept_only: bool


def main() -> None:
    """Measure and publish."""
    plan = parse_plan()
    cases: dict[str, Outcome] = {}
    for name in plan.periods:
        recording = read_recording(shortened(PERIODS[name]) if plan.quick else PERIODS[name])
        for horizon in plan.horizons:
            cases[f"{name}, {horizon} bars"] = measure(recording, horizon, plan)
    whole = len(cases) == len(PERIODS) * len(HORIZONS) and set(plan.models) == set(ENTRIES)
    publish(_report(cases), Options(plan.runs, plan.quick or not whole))


def measure(recording: Recording, horizon: int, plan: Plan) -> Outcome:
    """What the rows alone say (`facts`), and the outcome of every contestant (`models`)."""
    blocks = blocks_of(recording.labelled(horizon))[-_QUICK_BLOCKS if plan.quick else 0 :]
    rows = rows_ahead(blocks, recording.period)
    counted_from = blocks[-1].number + 1 - (_QUICK_COUNTED if plan.quick else BLOCKS)
    found = {name: forecasts(recording, blocks, rows, name, horizon, plan) for name in plan.models}
    members = {name: by_seed for name, by_seed in found.items() if name in MEMBERS and by_seed}
    if len(members) > 1:
        found = members | ensembles(rows, members, horizon, counted_from) | found
    counted = (rows["fold"] >= counted_from).to_numpy()
    whole = counted & np.all([np.isfinite(p) for by_seed in found.values() for p in by_seed], axis=0)
    outlook = Outlook.of(rows.filter(pl.Series(whole)), horizon)
    return {
        "facts": {**facts(outlook), "rows_without_a_forecast": int(counted.sum() - whole.sum())},
        "models": score_all({name: [p[whole] for p in by_seed] for name, by_seed in found.items() if by_seed}, outlook),
        "missing": [name for name, by_seed in found.items() if not by_seed],
    }


def forecasts(
    recording: Recording, blocks: list[Block], rows: pl.DataFrame, model: str, horizon: int, plan: Plan
) -> list[np.ndarray]:
    """Calibrated probabilities of one model per seed, in the order of `rows`; NaN where it did not forecast."""
    entry = ENTRIES[model]
    settings = {
        "model": model,
        "entry": [entry.days, entry.retrained_every],
        "features": load_registry(newest_version()).sha256,
        "period": repr(recording.period),
        "thinned": OLDER_EVERY_BARS,
        "block": BLOCK_MS,
        "parameters": [PARAMETERS, ROUNDS, FIVE_FEATURES],
        **({"profile": PROFILE.model_dump()} if model == "transformer" else {}),
    }
    files = ForecastFiles.of(plan.forecasts, f"{recording.period.name}_{horizon}_bars", model, settings)
    by_seed = scores(recording, blocks, entry, horizon, plan.runs, files, kept_only=plan.kept_only)
    found = []
    for frame in by_seed:
        score = rows.join(frame, on="place", how="left", maintain_order="left")["score"].fill_null(np.nan).to_numpy()
        found.append(calibrated(rows, score) if entry.calibrated else score)
    return found


def ensembles(
    rows: pl.DataFrame, members: Mapping[str, list[np.ndarray]], horizon: int, counted_from: int
) -> dict[str, list[np.ndarray]]:
    """Both ensembles per seed; a member with fewer seeds than others lends each of them several times."""
    rows_of_all = np.all([np.isfinite(p) for by_seed in members.values() for p in by_seed], axis=0)
    kept, seeds = rows.filter(pl.Series(rows_of_all)), max(map(len, members.values()))
    found: dict[str, list[np.ndarray]] = {STACKING: [], SHARPE_VOTE: []}
    for method, by_seed in found.items():
        for seed in range(seeds):
            chosen = {name: each[seed % len(each)][rows_of_all] for name, each in members.items()}
            probabilities = np.full(rows.height, np.nan)
            probabilities[rows_of_all], _ = ensemble(method, kept, chosen, horizon, counted_from)
            by_seed.append(probabilities)
    return found


def _report(cases: Mapping[str, Outcome]) -> Report:
    claims, highest = [], []
    for case, outcome in cases.items():
        # The one that claims were made for before anything was measured.
        ours, horizon = outcome["models"].get("lightgbm"), int(case.split()[1])
        if ours is None:
            continue
        if case.startswith("2025"):
            claims.append(Claim(f"{case}: AUC", ours["auc"]["mean"], BEST_AREA_OF_OTHERS[horizon], True, ""))
        against, error = ours["against_base_rate_e4"]["mean"], ours["ece"]["mean"]
        claims += [
            Claim(f"{case}: log loss less the base rate's, 1e-4", against, 0.0, False, ""),
            Claim(f"{case}: calibration error", error, 0.01, False, ""),
            Claim(f"{case}: Sharpe ratio after costs", ours["sharpe"]["mean"], 0.0, True, ""),
        ]
        highest.append((case.split(",")[0], ours["against_base_rate_upper_95_e4"]))
    for period in dict(highest):
        clear = min(upper for name, upper in highest if name == period)
        claims.append(Claim(f"{period}: upper end of the clearest interval of it, 1e-4", clear, 0.0, False, ""))
    return Report(
        name="model_table",
        about="forecasts of every model walk-forward, every score of a case on the same untouched rows",
        ours=dict(cases),
        peers={},
        ratio={},
        claims=claims,
        figures=[],
        tables=[table for case, outcome in cases.items() for table in tables_of(case, outcome)],
    )


def parse_plan() -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="seeds of every boosted model (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small inputs, to see that it works; nothing is kept")
    parser.add_argument("--period", action="append", choices=list(PERIODS), help="only this one; may be repeated")
    parser.add_argument("--horizon", action="append", type=int, choices=HORIZONS, help="only this one")
    parser.add_argument("--model", action="append", choices=list(ENTRIES), help="only this one; may be repeated")
    parser.add_argument("--forecasts", type=Path, default=KEPT, help="where forecasts are kept (default: %(default)s)")
    parser.add_argument("--kept-only", action="store_true", help="train nothing, score what there is in that folder")
    given = parser.parse_args()
    if given.runs < 1:
        parser.error(f"Expected at least 1 run, was {given.runs}.")
    return Plan(
        given.runs,
        given.quick,
        given.period or (["2025"] if given.quick else list(PERIODS)),
        given.horizon or (HORIZONS[:1] if given.quick else HORIZONS),
        given.model or list(ENTRIES),
        None if given.quick else given.forecasts,
        given.kept_only,
    )


if __name__ == "__main__":
    sys.exit(run(main))
