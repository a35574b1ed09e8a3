"""What two models' forecasts of the same bars were worth, as one pair of figures per block of one horizon.

A block is as long as a label, and has one decision, at the close it begins with: labels of successive blocks share
nothing, so that a block is one observation. All symbols of a decision are averaged into it, since markets move
together. The bars inside a block are not scored: their labels overlap with it and with the next one.

Both figures are bounded by what is stated here, before anything is scored. A probability counts as 0.2 or 0.8 where it
is beyond, so that a loss is never above 1.61 nats; a move counts as at most 5 % per root of an hour. So what is
compared is the log loss of forecasts that do not claim more than that, and a return whose rarest moves are cut: more
harm than that in a single block is not seen, neither by the one model nor by the other.

The evidence in the figures is weighed in `.sequential`; where they are kept is `levibot_core.stores.comparison_log`.
"""

import math
from typing import Final

import numpy as np
import polars as pl

from levibot_core.backtest.candidate import forecasts_that_pay
from levibot_core.errors import BundleError
from levibot_core.labels.definition import longest_bars
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import BundleManifest, ModelBundle
from levibot_core.models.metrics import log_losses
from levibot_core.models.row_forecasts import predict_rows
from levibot_core.risk.policy import CostAwarePolicy
from levibot_core.schemas import TIMESTAMP
from levibot_core.stores.comparison_log import PAIRED_BLOCKS

MOST_CERTAIN: Final = 0.8
"""A forecast beyond this, or below one less it, is scored as this."""
LOG_LOSS_BOUND: Final = math.log(MOST_CERTAIN / (1.0 - MOST_CERTAIN))
"""Two forecasts of a block never differ by more in log loss, nats."""
LARGEST_HOURLY_MOVE: Final = 0.05
"""A larger move over an hour is counted as this; over another horizon it grows with the root of time. Fraction."""

_POLICY: Final = CostAwarePolicy()


def block_ms(manifest: BundleManifest) -> int:
    """Length of a block: of the longest label, milliseconds."""
    return longest_bars(manifest.label) * Timeframe.parse(manifest.timeframe).milliseconds


def largest_move(manifest: BundleManifest) -> float:
    """The largest move of a symbol over the horizon that counts, fraction."""
    return LARGEST_HOURLY_MOVE * math.sqrt(block_ms(manifest) / 3_600_000)


def pnl_bound(manifest: BundleManifest) -> float:
    """Two models never differ by more in the return of a block: one long, one short, or one of them paying costs."""
    return 2.0 * largest_move(manifest) + _POLICY.round_trip_cost


def score_blocks(bundle: ModelBundle, rows: pl.DataFrame, history: pl.DataFrame | None = None) -> pl.DataFrame:
    """What a model's forecasts at the beginning of every block were worth.

    The return is that of `levibot_core.risk.policy`: a position of one part of the money where the forecast pays its
    costs, held for the horizon, with fees and slippage on both sides; 0 where the model stays flat. It is no
    backtest, which fills at the next open and keeps an account.

    Args:
        bundle: The model.
        rows: Labelled rows as `TRAINING_ROWS` has them, with the model's features; of any number of symbols.
        history: The rows that windows are cut from, `rows` among them; `rows` themselves when None.

    Returns:
        Columns decided_at, symbol, settled_at, log_loss and pnl, one row per block and symbol that the model can
        forecast, sorted by the first two.

    Raises:
        MissingFeatureError: a feature of the model is absent, or NaN or infinite in some row.
    """
    manifest = bundle.manifest
    bar = pl.duration(milliseconds=Timeframe.parse(manifest.timeframe).milliseconds)
    decided = (pl.col("ts") + bar).cast(TIMESTAMP).alias("decided_at")
    first = rows.with_columns(decided).filter(
        pl.col("symbol").is_in(list(manifest.symbols)), pl.col("decided_at").dt.epoch("ms") % block_ms(manifest) == 0
    )
    probabilities = predict_rows(bundle, first, history)
    acted = forecasts_that_pay(bundle, first, _POLICY, history)["prob_up"].to_numpy()
    sides = np.sign(np.nan_to_num(acted, nan=0.5) - 0.5)
    moves = np.clip(first["forward_return"].to_numpy(), -largest_move(manifest), largest_move(manifest))
    losses = log_losses(np.clip(probabilities, 1.0 - MOST_CERTAIN, MOST_CERTAIN), first["label"].to_numpy())
    return (
        first.select(
            "decided_at",
            "symbol",
            settled_at="label_end",
            log_loss=pl.Series(losses, dtype=pl.Float64),
            pnl=pl.Series(sides * moves - np.abs(sides) * _POLICY.round_trip_cost, dtype=pl.Float64),
        )
        .filter(pl.Series(np.isfinite(probabilities)))
        .sort("decided_at", "symbol")
    )


def pair_blocks(contender: pl.DataFrame, reference: pl.DataFrame) -> pl.DataFrame:
    """Two models' scores side by side, of the blocks and symbols that both forecast.

    Args:
        contender: Of the model that wants to be champion, or is, as `score_blocks` gives it.
        reference: Of the model it is compared with.

    Returns:
        Columns of `PAIRED_BLOCKS`, sorted by decided_at.
    """
    both = contender.join(
        reference, on=["decided_at", "symbol"], suffix="_reference", validate="1:1", maintain_order="left"
    )
    blocks = both.group_by("decided_at", maintain_order=True).agg(
        settled_at=pl.col("settled_at").max(),
        symbols=pl.len().cast(pl.Int64),
        contender_log_loss=pl.col("log_loss").mean(),
        reference_log_loss=pl.col("log_loss_reference").mean(),
        contender_pnl=pl.col("pnl").mean(),
        reference_pnl=pl.col("pnl_reference").mean(),
    )
    return PAIRED_BLOCKS.enforce(blocks)


def expect_comparable(contender: BundleManifest, reference: BundleManifest) -> None:
    """Refuse two models that do not forecast the same event, or no symbol of the same.

    Raises:
        BundleError: so it is.
    """
    if (contender.label, contender.timeframe) != (reference.label, reference.timeframe):
        raise BundleError(
            f"Expected two models of the same event, was {contender.label!r} and {reference.label!r}. "
            "Compare models of one name."
        )
    if not set(contender.symbols) & set(reference.symbols):
        raise BundleError(
            f"Expected two models that share a symbol, was {', '.join(contender.symbols)} and "
            f"{', '.join(reference.symbols)}. Train on a symbol of the champion's too."
        )
