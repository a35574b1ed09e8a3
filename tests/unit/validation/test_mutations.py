"""Every planted mistake is caught by the check that is there for it, and nothing right is objected to."""

from dataclasses import replace

import polars as pl
import pytest

from levibot_core.models.calibration import Calibrator
from levibot_core.validation.attack.guard import attack_pipeline
from levibot_core.validation.attack.market import small_market
from levibot_core.validation.attack.pipeline import FittedModel, Pipeline, PipelineSettings
from levibot_core.validation.attack.suite import attack_mutation
from levibot_core.validation.mutations.catalogue import MUTATIONS, with_every_step_right
from levibot_core.validation.mutations.mutation import Mutation
from levibot_core.validation.perturbation import MarketTables

PIPELINE = Pipeline()
ASKED_FOR = {
    "negative_shift",
    "centred_window",
    "whole_sample_score",
    "open_stamp_join",
    "target_fitted_normaliser",
    "purge_by_label_start",
    "embargo_within_purge",
    "same_bar_fill",
    "forecast_of_the_next_candle",
    "backfilled_value",
    "calibrated_on_test_rows",
    "stopped_by_test_rows",
    "funding_known_early",
    "index_on_its_own_day",
    "whole_sample_regime",
    "gap_filled_from_behind",
}


def a_market(seed: int, edge: float) -> MarketTables:
    return small_market(seed, edge, PIPELINE.settings.symbols, PIPELINE.settings.timeframe)


@pytest.fixture(scope="module")
def market() -> MarketTables:
    return a_market(5, 0.15)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_mistake_is_caught_for_what_it_is(market: MarketTables, mutation: Mutation) -> None:
    outcome = attack_mutation(mutation, PIPELINE, market, seed=5)
    assert set(outcome.failed) == set(mutation.caught_by), outcome.detail
    assert outcome.caught
    assert outcome.detail


def test_the_catalogue_has_each_mistake_once_and_all_that_were_asked_for() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(names) == len(set(names))
    assert set(names) >= ASKED_FOR


def test_the_clean_pipeline_raises_no_alarm() -> None:
    report = attack_pipeline(PIPELINE, a_market(1, 0.15), seed=1)
    assert report.failures == ()
    assert report.checks[-1].name == "the_whole_run_ignores_the_future"


def test_the_right_form_of_every_step_raises_no_alarm_without_an_edge_either() -> None:
    report = attack_pipeline(with_every_step_right(PIPELINE), a_market(3, 0.0), seed=3, feature_instants=3)
    assert report.failures == ()


def test_a_mistake_that_no_stage_shows_by_itself_is_caught_end_to_end(market: MarketTables) -> None:
    clean = Pipeline()

    def forecast(
        settings: PipelineSettings, rows: pl.DataFrame, model: FittedModel, calibrator: Calibrator
    ) -> pl.DataFrame:
        """Looks ahead only with a fitted calibrator, which the attack on the stage alone does not give it."""
        forecasts = clean.forecast(settings, rows, model, calibrator)
        ahead = pl.lit(float(model.score(rows).mean()))
        return forecasts if calibrator.method == "none" else forecasts.with_columns(prob_up=ahead)

    report = attack_pipeline(replace(clean, forecast=forecast), market, seed=5, feature_instants=1)
    assert [check.name for check in report.checks if not check.passed] == ["the_whole_run_ignores_the_future"]
