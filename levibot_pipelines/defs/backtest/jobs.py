"""The job that the API queues when somebody asks for a backtest."""

import dagster as dg

from levibot_core.backtest.on_request import RequestedBacktest
from levibot_pipelines.requested_backtest import run_requested_backtest
from levibot_pipelines.runner import BACKTEST_ON_REQUEST
from levibot_pipelines.workspace import Workspace


class BacktestConfig(dg.Config):
    """What was asked for; see `RequestedBacktest`, which checks it."""

    backtest_id: str
    symbol: str
    days: int = 30
    fee_bps: float = 5.0
    slippage_bps: float = 5.0
    max_pos: float = 1.0


@dg.op(name=BACKTEST_ON_REQUEST)
def trade_newest_days(
    context: dg.OpExecutionContext, config: BacktestConfig, workspace: dg.ResourceParam[Workspace]
) -> None:
    """The champion on the newest days of one symbol, with the costs that were asked for."""
    figures = run_requested_backtest(workspace, RequestedBacktest(**config.model_dump()))
    context.add_output_metadata({name: value for name, value in figures.items() if value is not None})


@dg.job(name=BACKTEST_ON_REQUEST, description="A backtest of the champion that somebody asked the API for.")
def backtest_on_request_job() -> None:
    """One op."""
    trade_newest_days()
