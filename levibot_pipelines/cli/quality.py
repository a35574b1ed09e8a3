"""`levibot quality`: the data-quality report of the newest ingestion."""

import json

from levibot_core.config import load_settings
from levibot_core.errors import MarketDataUnavailableError
from levibot_pipelines.cli.output import JsonOption, print_json, print_table
from levibot_pipelines.workspace import Workspace


def quality(as_json: JsonOption = False) -> None:
    """Show what the quality rules found in the candles, known exchange halts included."""
    path = Workspace.open(load_settings()).home.reports / "quality" / "candles.json"
    if not path.exists():
        raise MarketDataUnavailableError(
            f"Expected a report at {path}, but nothing was ingested yet. Run `levibot run`."
        )
    report = json.loads(path.read_text("utf-8"))
    if as_json:
        print_json(report)
        return
    findings = report["findings"]
    print_table(
        f"Candle quality: {len(findings)} findings",
        ("rule", "severity", "symbol", "count", "what was found"),
        [(item["rule"], item["severity"], item["symbol"], item["count"], item["message"]) for item in findings],
    )
