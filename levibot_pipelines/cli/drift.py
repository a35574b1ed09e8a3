"""`levibot drift`: the newest drift report."""

import json

from levibot_core.config import load_settings
from levibot_core.errors import MarketDataUnavailableError
from levibot_core.stores.paths import Home
from levibot_pipelines.cli.output import JsonOption, print_json, print_table

_SHOWN = 15


def drift(as_json: JsonOption = False) -> None:
    """Show how far the newest features are from those the champion was trained on."""
    path = Home.at(load_settings().home).reports / "drift" / "latest.json"
    if not path.exists():
        raise MarketDataUnavailableError(f"Expected a drift report at {path}, but there is none. Run `levibot run`.")
    report = json.loads(path.read_text("utf-8"))
    if as_json:
        print_json(report)
        return
    print_table(
        f"Drift against champion version {report['champion_version']} on {report['report_day']}: {report['level']}",
        ("feature", "population stability index", "level"),
        [(item["feature"], f"{item['psi']:.3f}", item["level"]) for item in report["features"][:_SHOWN]],
    )
