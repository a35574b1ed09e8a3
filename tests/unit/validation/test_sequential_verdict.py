from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from levibot_core.errors import DataQualityError
from levibot_core.stores.comparison_log import PAIRED_BLOCKS
from levibot_core.validation.sequential import DECISIVE
from levibot_core.validation.sequential_verdict import SequentialVerdict, evidence_paths, weigh

_LOSS_BOUND, _PNL_BOUND = 1.4, 0.1
_BEGIN = datetime(2026, 1, 2, tzinfo=UTC)


def _blocks(loss_gain: np.ndarray, pnl_gain: np.ndarray | None = None) -> pl.DataFrame:
    decided = [_BEGIN + timedelta(hours=hour) for hour in range(loss_gain.size)]
    return pl.DataFrame(
        {
            "decided_at": decided,
            "settled_at": [time + timedelta(hours=1) for time in decided],
            "symbols": np.ones(loss_gain.size, np.int64),
            "contender_log_loss": 0.7 - loss_gain,
            "reference_log_loss": np.full(loss_gain.size, 0.7),
            "contender_pnl": np.zeros(loss_gain.size) if pnl_gain is None else pnl_gain,
            "reference_pnl": np.zeros(loss_gain.size),
        },
        schema=PAIRED_BLOCKS.polars_schema,
    )


def _weigh(loss_gain: np.ndarray, pnl_gain: np.ndarray | None = None) -> SequentialVerdict:
    return weigh(_blocks(loss_gain, pnl_gain), _LOSS_BOUND, _PNL_BOUND)


def test_without_blocks_nothing_is_known() -> None:
    verdict = _weigh(np.empty(0))

    assert (verdict.blocks, verdict.days, verdict.expected_days) == (0, 0.0, None)
    assert (verdict.log_loss.better, verdict.worse, verdict.log_loss.mean) == (1.0, 1.0, None)
    assert not (verdict.is_better or verdict.is_worse)


def test_a_lower_log_loss_promotes_and_a_higher_one_rolls_back() -> None:
    gains = np.random.default_rng(1).normal(0.05, 0.1, 300)

    better, worse = _weigh(gains), _weigh(-gains)
    assert (better.is_better, better.is_worse) == (True, False)
    assert (worse.is_better, worse.is_worse) == (False, True)
    assert better.days == pytest.approx(300 / 24)
    assert better.expected_days is not None
    assert better.expected_days < 10
    assert better.log_loss.lower_95 > 0.0


def test_a_contender_that_forecasts_better_and_earns_less_is_not_promoted() -> None:
    random = np.random.default_rng(2)
    verdict = _weigh(random.normal(0.05, 0.1, 300), random.normal(-0.01, 0.01, 300))

    assert verdict.log_loss.better >= DECISIVE
    assert verdict.pnl.worse >= DECISIVE
    assert not verdict.is_better


def test_a_champion_that_earns_less_is_rolled_back_though_its_log_loss_says_nothing() -> None:
    random = np.random.default_rng(3)
    verdict = _weigh(random.normal(0.0, 0.1, 300), random.normal(-0.01, 0.01, 300))

    assert verdict.log_loss.worse < DECISIVE
    assert verdict.is_worse


def test_evidence_counts_from_the_block_that_it_was_reached_at() -> None:
    gains = np.concatenate([np.full(60, 0.2), np.full(400, -0.2)])

    verdict = _weigh(gains)
    assert verdict.log_loss.better < 1.0
    assert verdict.is_better


def test_the_figures_of_a_decision_are_those_of_the_paths() -> None:
    blocks = _blocks(np.random.default_rng(4).normal(-0.02, 0.1, 100))
    paths = evidence_paths(blocks, _LOSS_BOUND, _PNL_BOUND)
    verdict = weigh(blocks, _LOSS_BOUND, _PNL_BOUND)

    assert verdict.figures()["e_worse"] == max(paths.worse.max(), 1.0)
    assert verdict.worse == paths.worse[-1] == (paths.log_loss_worse[-1] + paths.pnl_worse[-1]) / 2.0
    assert verdict.figures()["blocks"] == 100


def test_neighbours_that_are_alike_are_told() -> None:
    noise = np.random.default_rng(5).normal(0.0, 0.1, 2_001)

    assert _weigh(noise[:2_000]).autocorrelation == pytest.approx(0.0, abs=0.06)
    assert _weigh(noise[:-1] + noise[1:]).autocorrelation == pytest.approx(0.5, abs=0.06)
    assert _weigh(noise[:10]).autocorrelation is None
    assert _weigh(np.zeros(100)).autocorrelation is None


def test_a_difference_beyond_its_bound_is_refused() -> None:
    with pytest.raises(DataQualityError, match="Bounds are stated beforehand"):
        _weigh(np.array([0.1, 1.5]))
