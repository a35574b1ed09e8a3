"""The job that the API queues: its queries and its configuration fit Dagster's schema and the job."""

import dagster as dg
import pytest
from dagster_graphql.schema import create_schema
from graphql import parse, validate
from pydantic import ValidationError

from levibot_core.backtest.on_request import RequestedBacktest, reasons_against_belief
from levibot_pipelines.definitions import defs
from levibot_pipelines.runner import BACKTEST_ON_REQUEST
from levibot_serving.backtests import JOB
from levibot_serving.dagster_client import FIND, LAUNCH

ASKED = {
    **{"backtest_id": "b-0123456789abcdef", "symbol": "BTC/USDT", "days": 7, "fee_bps": 5.0, "slippage_bps": 5.0},
    "max_pos": 1.0,
}


@pytest.mark.parametrize("query", [LAUNCH, FIND])
def test_what_the_api_asks_fits_the_schema_of_dagster(query: str) -> None:
    assert validate(create_schema().graphql_schema, parse(query)) == []


def test_the_job_is_there_and_takes_what_the_api_sends() -> None:
    assert JOB == BACKTEST_ON_REQUEST
    job = defs().resolve_job_def(BACKTEST_ON_REQUEST)
    assert dg.validate_run_config(job, {"ops": {JOB: {"config": ASKED}}})


@pytest.mark.parametrize(
    "change", [{"backtest_id": "../../elsewhere"}, {"days": 0}, {"max_pos": 1.5}, {"fee_bps": -1.0}]
)
def test_what_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RequestedBacktest.model_validate({**ASKED, **change})


def test_costs_are_basis_points_and_trained_rows_are_told() -> None:
    parameters = RequestedBacktest.model_validate(ASKED).parameters
    assert (parameters.taker_fee, parameters.slippage, parameters.equity_fraction) == (0.0005, 0.0005, 1.0)
    assert reasons_against_belief(2, 2) == ()
    assert "1970-01-01T00:00+00:00" in reasons_against_belief(1, 2)[0]
