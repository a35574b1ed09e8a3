import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from levibot_core.errors import BundleError
from levibot_core.labels.definition import TripleBarrierLabel
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.uncertainty import VOLATILITY_FEATURE
from levibot_core.schemas import TIMESTAMP
from levibot_core.validation.paired_blocks import (
    LOG_LOSS_BOUND,
    block_ms,
    expect_comparable,
    largest_move,
    pair_blocks,
    pnl_bound,
    score_blocks,
)

_BEGIN = datetime(2026, 1, 2, tzinfo=UTC)
_BAR = timedelta(minutes=5)
_ROUND_TRIP = 0.004


def _model(share: float, **changes: object) -> ModelBundle:
    """A model that always says the same: about that share."""
    identity = BundleIdentity(
        **{
            "model_name": "levibot-5m-h12",
            "timeframe": "5m",
            "horizon_bars": 12,
            "symbols": ("BTC/USDT", "ETH/USDT"),
            "feature_set": "v1",
            "features": (VOLATILITY_FEATURE,),
            "snapshot_id": "none",
            "source_kind": "recorded",
            "created_at": _BEGIN,
            "seed": 7,
            **changes,
        }  # type: ignore[arg-type]
    )
    rises = round(share * 998)
    return base_rate_bundle(identity, np.array([1] * rises + [0] * (998 - rises)))


def _rows(bars: int, forward_return: float = 0.02, symbols: tuple[str, ...] = ("BTC/USDT", "ETH/USDT")) -> pl.DataFrame:
    """Bars from midnight on: the first decision is five minutes later."""
    opened = [_BEGIN + _BAR * bar for bar in range(bars)]
    return pl.concat(
        pl.DataFrame(
            {
                "symbol": [symbol] * bars,
                "ts": opened,
                VOLATILITY_FEATURE: [0.01] * bars,
                "label": [int(forward_return > 0)] * bars,
                "forward_return": [forward_return] * bars,
                "label_end": [time + _BAR * 13 for time in opened],
            },
            schema_overrides={"ts": TIMESTAMP, "label_end": TIMESTAMP},
        )
        for symbol in symbols
    )


def test_a_block_is_one_decision_and_no_two_share_anything_of_their_labels() -> None:
    scores = score_blocks(_model(0.5), _rows(60))
    decided, settled = scores["decided_at"].unique().sort(), scores["settled_at"].unique().sort()

    assert decided.to_list() == [_BEGIN + timedelta(hours=hour) for hour in range(1, 6)]
    assert settled[:-1].to_list() == decided[1:].to_list()
    assert block_ms(_model(0.5).manifest) == 3_600_000


def test_symbols_of_one_time_are_one_observation() -> None:
    blocks = pair_blocks(score_blocks(_model(0.7), _rows(30)), score_blocks(_model(0.5), _rows(30)))

    assert blocks.height == 2
    assert blocks["symbols"].to_list() == [2, 2]
    gained = blocks["reference_log_loss"] - blocks["contender_log_loss"]
    assert gained.to_list() == pytest.approx([math.log(0.7 / 0.5)] * 2, abs=0.002)


def test_a_symbol_that_only_one_of_both_forecasts_is_left_out() -> None:
    known = score_blocks(_model(0.7, symbols=("ETH/USDT",)), _rows(30))

    assert pair_blocks(known, score_blocks(_model(0.5), _rows(30)))["symbols"].to_list() == [1, 1]


def test_a_forecast_is_acted_on_where_it_pays_and_pays_its_costs() -> None:
    sure, unsure = score_blocks(_model(0.9), _rows(30)), score_blocks(_model(0.5), _rows(30))
    short = score_blocks(_model(0.1), _rows(30))

    assert sure["pnl"].to_list() == pytest.approx([0.02 - _ROUND_TRIP] * 4)
    assert short["pnl"].to_list() == pytest.approx([-0.02 - _ROUND_TRIP] * 4)
    assert unsure["pnl"].to_list() == [0.0] * 4


@pytest.mark.parametrize("forward_return", [-0.9, -0.02, 0.02, 3.0])
def test_no_two_models_differ_by_more_than_the_stated_bounds(forward_return: float) -> None:
    rows = _rows(30, forward_return)
    blocks = pair_blocks(score_blocks(_model(0.998), rows), score_blocks(_model(0.002), rows))
    bounds = {"log_loss": LOG_LOSS_BOUND, "pnl": pnl_bound(_model(0.5).manifest)}

    for kind, bound in bounds.items():
        apart = (blocks[f"contender_{kind}"] - blocks[f"reference_{kind}"]).abs()
        assert apart.max() <= bound * (1.0 + 1e-12)


def test_a_move_counts_up_to_5_percent_per_root_of_an_hour() -> None:
    assert largest_move(_model(0.5).manifest) == pytest.approx(0.05)
    assert largest_move(_model(0.5, horizon_bars=48).manifest) == pytest.approx(0.1)


def test_barriers_are_scored_by_their_longest_label_and_never_acted_on() -> None:
    model = _model(0.9, horizon_bars=24, triple_barrier=TripleBarrierLabel(max_bars=24))

    assert block_ms(model.manifest) == 2 * 3_600_000
    assert score_blocks(model, _rows(60))["pnl"].to_list() == [0.0] * 4


def test_models_of_different_events_or_without_a_common_symbol_are_not_compared() -> None:
    ours = _model(0.5).manifest
    with pytest.raises(BundleError, match="same event"):
        expect_comparable(ours, _model(0.5, horizon_bars=6).manifest)
    with pytest.raises(BundleError, match="share a symbol"):
        expect_comparable(ours, _model(0.5, symbols=("SOL/USDT",)).manifest)
    expect_comparable(ours, _model(0.7, symbols=("ETH/USDT",)).manifest)
