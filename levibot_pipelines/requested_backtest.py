"""Running a backtest that somebody asked the API for: the champion on one symbol's newest days."""

from collections.abc import Mapping

from levibot_core.backtest.analysis import analyse
from levibot_core.backtest.metrics import backtest_metrics
from levibot_core.backtest.on_request import RequestedBacktest, backtest_on_request, reasons_against_belief
from levibot_core.backtest.report import Report, ReportContext, write_html_report, write_json_report
from levibot_core.errors import RegistryError
from levibot_core.features.registry import load_registry
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.stores.training_rows import read_inputs, training_rows
from levibot_pipelines.backtests import funding_known_at
from levibot_pipelines.registry import CHAMPION
from levibot_pipelines.shadow import settled_until_ms, trained_until_ms
from levibot_pipelines.workspace import Workspace

Figures = Mapping[str, float | int | None]


def run_requested_backtest(workspace: Workspace, request: RequestedBacktest) -> Figures:
    """Trade the champion's forecasts and write the report where the API looks for it; returns figures to show.

    Raises:
        RegistryError: there is no champion.
        LevibotError: its data cannot be read, or there are none.
    """
    champion = workspace.registry.by_alias(CHAMPION)
    if champion is None:
        raise RegistryError("Expected a champion to backtest, but there is none. Promote a version first.")
    bundle, settings = workspace.registry.load_bundle(champion.version), workspace.settings
    until_ms = settled_until_ms(workspace)
    start_ms = until_ms - request.days * MILLISECONDS_PER_DAY
    data = training_rows(
        read_inputs(
            workspace.lake,
            source_key=workspace.ingested_source.key,
            market=settings.market,
            timeframe=settings.timeframe,
            symbols=settings.symbols,
            as_of_ms=until_ms,
        ),
        feature_set=load_registry(bundle.manifest.feature_set),
        timeframe=workspace.timeframe,
        label=bundle.manifest.label,
        start_ms=start_ms - bundle.manifest.window * workspace.timeframe.milliseconds,
        as_of_ms=until_ms,
    )
    backtest = backtest_on_request(
        bundle, data, request, start_ms, funding_known_at(workspace, (request.symbol,), until_ms)
    )
    summary = backtest_metrics(backtest.result)
    about = ReportContext(
        title=f"Backtest of {bundle.manifest.model_name} version {champion.version} on {request.symbol}",
        model_name=bundle.manifest.model_name,
        model_version=champion.version,
        snapshot_id=bundle.manifest.snapshot_id,
        source=workspace.ingested_source.description,
        reasons=reasons_against_belief(start_ms, trained_until_ms(workspace, champion)),
    )
    path = workspace.home.backtests / f"{request.backtest_id}.json"
    analysis = analyse(backtest, data.candles, champion_note="This version is the champion.")
    report = Report(about, backtest.result, summary, backtest.funding, analysis)
    write_html_report(path.with_suffix(".html"), report)
    write_json_report(path, report)
    return {
        "trades": summary.strategy.trades,
        "net_return": summary.strategy.total_return,
        "buy_and_hold_return": summary.buy_and_hold.total_return,
        "sharpe": summary.strategy.sharpe,
    }
