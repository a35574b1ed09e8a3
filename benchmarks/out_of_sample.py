"""From scores to forecasts, block by block: calibrators and ensembles that learn from earlier blocks alone.

A block is forecast by what was fitted on the scores given to blocks before it, whose labels had ended when it begins.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from benchmarks.model_scores import policy_rows_of
from benchmarks.periods import Period, thinned
from benchmarks.walk_forward import Block
from levibot_core.models.calibration_fitting import evidence_of, fit_cautious_platt
from levibot_core.models.ensemble import EnsembleRecipe
from levibot_core.models.ensemble_fitting import fit_stacking, sharpe_vote
from levibot_core.models.trial_returns import daily_returns

STACKING, SHARPE_VOTE = "stacking", "sharpe_vote"


def rows_ahead(blocks: Sequence[Block], period: Period) -> pl.DataFrame:
    """The rows of all blocks in order, with fold, and base_rate and expected_move as known when the block begins."""
    return pl.concat(_with_what_was_known(block, thinned(block.known, period)) for block in blocks)


def settled_before(rows: pl.DataFrame, fold: int) -> np.ndarray:
    """Which rows of earlier blocks had a label that ended before this one begins, bool (n,)."""
    begin = rows.filter(pl.col("fold") == fold)["known_at"].min()
    return rows.select((pl.col("fold") < fold) & (pl.col("label_end") < begin)).to_series().to_numpy()


def calibrated(rows: pl.DataFrame, scores: np.ndarray) -> np.ndarray:
    """Probabilities of a rise by Platt's cautious curve of the blocks before, (n,); the first block is as it was."""
    labels = rows["label"].cast(pl.Float64).to_numpy()
    known_ms, ends_ms = (rows[column].dt.epoch("ms").to_numpy() for column in ("known_at", "label_end"))
    folds, found = rows["fold"].to_numpy(), scores.copy()
    for fold in np.unique(folds)[1:]:
        seen = settled_before(rows, int(fold)) & np.isfinite(scores)
        curve = fit_cautious_platt(scores[seen], labels[seen], evidence_of(known_ms[seen], ends_ms[seen]))
        found[folds == fold] = curve.apply(scores[folds == fold])
    return found


def ensemble(
    method: str, rows: pl.DataFrame, members: Mapping[str, np.ndarray], horizon: int, from_fold: int
) -> tuple[np.ndarray, dict[int, EnsembleRecipe]]:
    """An ensemble of calibrated forecasts, fitted anew for every block on the blocks before.

    Args:
        method: `STACKING` or `SHARPE_VOTE`.
        rows: As `rows_ahead` gives them.
        members: Name to probabilities, (n,) each, finite.
        horizon: Bars ahead.
        from_fold: The first block to forecast. The very first one is not learnt from: no calibrator was fitted for it.

    Returns:
        Probabilities, (n,), NaN before `from_fold`; and the recipe of each block.
    """
    folds, found = rows["fold"].to_numpy(), np.full(rows.height, np.nan)
    recipes: dict[int, EnsembleRecipe] = {}
    for fold in range(from_fold, int(folds.max()) + 1):
        seen = settled_before(rows, fold) & (folds > folds.min())
        recipes[fold] = _fitted(method, rows.filter(pl.Series(seen)), {n: p[seen] for n, p in members.items()}, horizon)
        ahead = folds == fold
        found[ahead] = recipes[fold].apply(np.array([p[ahead] for p in members.values()]))
    return found, recipes


def _fitted(method: str, seen: pl.DataFrame, members: Mapping[str, np.ndarray], horizon: int) -> EnsembleRecipe:
    if method == STACKING:
        return fit_stacking(members, seen["label"].cast(pl.Float64).to_numpy(), horizon)
    policy = policy_rows_of(seen)
    return sharpe_vote({name: daily_returns(p, policy) for name, p in members.items()})


def _with_what_was_known(block: Block, known: pl.DataFrame) -> pl.DataFrame:
    moves = known.group_by("symbol", maintain_order=True).agg(
        # Not a mean of Polars, whose threads add in any order.
        expected_move=pl.col("forward_return").map_batches(_mean_move, return_dtype=pl.Float64, returns_scalar=True)
    )
    return block.ahead.join(moves, on="symbol", how="left", maintain_order="left").with_columns(
        fold=pl.lit(block.number, pl.Int32), base_rate=pl.lit(float(known["label"].cast(pl.Float64).to_numpy().mean()))
    )


def _mean_move(returns: pl.Series) -> float:
    return float(np.abs(returns.to_numpy()).mean())
