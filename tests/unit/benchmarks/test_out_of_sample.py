import numpy as np
import polars as pl
import pytest

from benchmarks.model_scores import Outlook, facts, score_all, spread
from benchmarks.model_tables import tables_of, with_deviation
from benchmarks.out_of_sample import SHARPE_VOTE, STACKING, calibrated, ensemble, settled_before
from levibot_core.models.metrics import log_losses
from levibot_core.schemas import TIMESTAMP

FOLDS, BARS, HORIZON, BAR_MS = 5, 288, 12, 300_000
RANDOM = np.random.default_rng(3)


def rows_of(labels: np.ndarray) -> pl.DataFrame:
    """One symbol, five blocks of a day, each label's sign that of the return."""
    known_ms = 1_735_689_600_000 + BAR_MS * np.arange(FOLDS * BARS)
    moves = 0.02 * np.random.default_rng(4).random(known_ms.size)
    return pl.DataFrame(
        {
            "symbol": ["BTC/USDT"] * known_ms.size,
            "known_at": pl.Series(known_ms).cast(TIMESTAMP),
            "label_end": pl.Series(known_ms + HORIZON * BAR_MS).cast(TIMESTAMP),
            "label": labels.astype(np.int8),
            "forward_return": np.where(labels == 1, moves, -moves),
            "fold": np.repeat(np.arange(FOLDS), BARS).astype(np.int32),
            "expected_move": np.full(known_ms.size, 0.01),
            "base_rate": np.full(known_ms.size, 0.5),
        }
    )


LABELS = (RANDOM.random(FOLDS * BARS) < 0.5).astype(float)
SCORES = {
    name: np.clip(0.5 + 0.3 * (LABELS - 0.5) + RANDOM.normal(0, 0.1, LABELS.size), 0.01, 0.99)
    for name in ("one", "other")
}
FOLD = np.repeat(np.arange(FOLDS), BARS)


@pytest.mark.parametrize("fold", [2, 3])
def test_what_a_block_turns_out_to_be_changes_no_forecast_of_it(fold: int) -> None:
    turned = np.where(fold <= FOLD, 1.0 - LABELS, LABELS)
    ahead = fold < FOLD
    so_far = ~ahead
    one, other = calibrated(rows_of(LABELS), SCORES["one"]), calibrated(rows_of(turned), SCORES["one"])
    np.testing.assert_array_equal(one[so_far], other[so_far])
    assert (one[ahead] != other[ahead]).any()
    for method in (STACKING, SHARPE_VOTE):
        found, recipes = ensemble(method, rows_of(LABELS), SCORES, HORIZON, 2)
        after, others = ensemble(method, rows_of(turned), SCORES, HORIZON, 2)
        np.testing.assert_array_equal(found[so_far], after[so_far])
        assert recipes[fold] == others[fold]
        assert recipes[FOLDS - 1] != others[FOLDS - 1]
        assert np.isnan(found[FOLD < 2]).all()
        assert np.isfinite(found[FOLD >= 2]).all()


def test_labels_that_end_in_the_block_are_not_learnt_from() -> None:
    rows = rows_of(LABELS)
    seen = settled_before(rows, 2)
    begin_ms = rows.filter(pl.col("fold") == 2)["known_at"].dt.epoch("ms").to_numpy().min()
    assert rows.filter(pl.Series(seen))["label_end"].dt.epoch("ms").to_numpy().max() < begin_ms
    assert np.count_nonzero(seen) == 2 * BARS - HORIZON


def test_scores_of_constants_and_of_an_oracle() -> None:
    rows = rows_of(LABELS)
    outlook = Outlook.of(rows, HORIZON)
    oracle = np.clip(0.5 + 0.4 * (LABELS - 0.5) + RANDOM.normal(0, 0.01, LABELS.size), 0.01, 0.99)
    constant = np.full(LABELS.size, np.nextafter(0.5, 1.0))
    found = score_all({"oracle": [oracle, oracle], "always_up": [constant]}, outlook)
    up, best = found["always_up"], found["oracle"]
    assert up["accuracy"]["mean"] == pytest.approx(LABELS.mean())
    assert up["accuracy_of_most_confident_1%"]["mean"] is None
    assert up["against_base_rate_e4"]["mean"] == pytest.approx(0.0, abs=1e-9)
    assert up["sharpe"] == {"mean": 0.0, "deviation": None}
    assert up["deflated_sharpe"]["mean"] is None
    assert best["auc"] == {"mean": 1.0, "deviation": 0.0}
    assert best["accuracy_of_most_confident_1%"]["mean"] == 1.0
    assert best["against_a_half_upper_95_e4"] < 0.0
    assert best["against_a_half_e4"] == pytest.approx(
        1e4 * (log_losses(oracle, LABELS).mean() - np.log(2.0)), rel=1e-12
    )
    assert best["sharpe"]["mean"] > 0.0
    assert best["seeds"] == 2
    (ranking, probabilities, money) = tables_of("case", {"models": found, "facts": facts(outlook)})
    for table in (ranking, probabilities, money):
        assert [row[0] for row in table.rows] == ["model", "oracle", "always_up"]
        assert {len(row) for row in table.rows} == {len(table.rows[0])}


def test_the_calibration_error_by_chance_is_that_of_coins() -> None:
    expected = np.sqrt(2.0 / np.pi) * 0.5 / np.sqrt(LABELS.size)
    assert facts(Outlook.of(rows_of(LABELS), HORIZON))["ece_by_chance"] == pytest.approx(expected, rel=0.5)


def test_a_spread_leaves_out_seeds_without_the_figure() -> None:
    assert spread([None, None]) == {"mean": None, "deviation": None}
    assert spread([1.0, None]) == {"mean": 1.0, "deviation": None}
    assert spread([1.0, 3.0]) == {"mean": 2.0, "deviation": pytest.approx(2.0**0.5)}
    assert with_deviation(spread([None]), 2) == "-"
    assert with_deviation(spread([0.01, 0.03]), 1, 100.0) == "2.0 ± 1.4"
    assert with_deviation(spread([0.01]), 1, 100.0) == "1.0"
