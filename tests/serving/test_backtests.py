"""Asking Dagster for a backtest: queries that fit its schema, and one run per idempotency key."""

from typing import Any

import pytest

from levibot_core.stores.paths import Home
from levibot_serving.backtests import Backtests
from levibot_serving.contract_backtests import BacktestRequest
from levibot_serving.dagster_client import DagsterClient, DagsterUnavailableError
from levibot_serving.errors import ApiError

REQUEST = BacktestRequest(symbol="BTCUSDT", days=7)


@pytest.fixture
def backtests(home: Home, dagster: Any) -> Backtests:
    return Backtests(home, DagsterClient(dagster.url))


def test_the_same_key_is_one_backtest_and_another_is_another(backtests: Backtests, dagster: Any, home: Home) -> None:
    first = backtests.queue(REQUEST, "key-number-1", "ada")
    assert backtests.queue(REQUEST, "key-number-1", "ada") == first
    other = backtests.queue(REQUEST, None, "ada")
    assert (first.run_id, first.status, other.run_id) == ("run-1", "queued", "run-2")
    with pytest.raises(ApiError, match="Send a new key"):
        backtests.queue(REQUEST.model_copy(update={"days": 8}), "key-number-1", "ada")
    # The record is gone, as a process was killed before it was written: Dagster still knows.
    (home.backtests / "requests" / f"{first.id}.json").unlink()
    assert backtests.queue(REQUEST, "key-number-1", "ada").run_id == "run-1"
    assert len(dagster.launched) == 2
    parameters = dagster.launched[0]
    assert parameters["selector"]["jobName"] == "backtest_on_request"
    config = parameters["runConfigData"]["ops"]["backtest_on_request"]["config"]
    assert config == {
        **{"backtest_id": first.id, "symbol": "BTC/USDT", "days": 7, "fee_bps": 5.0, "slippage_bps": 5.0},
        "max_pos": 1.0,
    }
    assert {"key": "levibot/actor", "value": "ada"} in parameters["executionMetadata"]["tags"]


def test_what_was_asked_for_is_listed_until_its_report_is_there(backtests: Backtests, home: Home) -> None:
    queued = backtests.queue(REQUEST, "key-number-1", "ada")
    (entry,) = backtests.entries()
    assert (entry.id, entry.status, entry.window, entry.metrics) == (queued.id, "queued", "newest 7 days", None)
    assert backtests.report(queued.id).report is None
    (home.backtests / f"{queued.id}.json").write_text("{}")
    assert backtests.queue(REQUEST, "key-number-1", "ada").status == "done"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"errors": [{"message": "no"}], "data": None}, "Expected data from Dagster"),
        (
            {
                "data": {
                    "runsOrError": {"__typename": "Runs", "results": []},
                    "launchRun": {"__typename": "PipelineNotFoundError", "message": "no such job"},
                }
            },
            "PipelineNotFoundError: no such job",
        ),
        (
            {
                "data": {
                    "runsOrError": {"__typename": "PythonError", "message": "oh"},
                    "launchRun": {"__typename": "RunConfigValidationInvalid", "errors": [{"message": "bad days"}]},
                }
            },
            "bad days",
        ),
    ],
)
def test_a_refusal_of_dagster_is_told_and_leaves_nothing(
    backtests: Backtests, dagster: Any, home: Home, answer: Any, told: str
) -> None:
    dagster.answer = answer
    with pytest.raises(DagsterUnavailableError, match=told):
        backtests.queue(REQUEST, "key-number-1", "ada")
    assert list((home.backtests / "requests").glob("*.json")) == []


def test_an_address_where_nobody_listens_is_named_without_its_password(home: Home) -> None:
    client = DagsterClient("http://ada:secret@127.0.0.1:1")
    with pytest.raises(DagsterUnavailableError, match=r"at http://127\.0\.0\.1:1, was ConnectError") as refused:
        Backtests(home, client).queue(REQUEST, None, "ada")
    assert "secret" not in str(refused.value)
