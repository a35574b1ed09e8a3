"""Where the reports of backtests lie, and reading them: nothing that commands would have to wait for.

They are made by `.backtests`.
"""

import json
from pathlib import Path
from typing import Any

from levibot_core.errors import MarketDataUnavailableError
from levibot_core.stores.paths import Home


def reports_folder(home: Home) -> Path:
    """Where backtests lie."""
    return home.reports / "backtests"


def kept_reports(home: Home) -> list[dict[str, Any]]:
    """Every backtest of a home, newest version first, each as its JSON with `name`, the file's."""
    found = [read_report(home, path.stem) for path in reports_folder(home).glob("v*.json")]
    return sorted(found, key=lambda report: (-report["context"]["model_version"], report["name"]))


def read_report(home: Home, name: str) -> dict[str, Any]:
    """One backtest as its JSON, with `name`.

    Raises:
        MarketDataUnavailableError: there is none of that name.
    """
    path = reports_folder(home) / f"{name}.json"
    if not path.exists():
        raise MarketDataUnavailableError(
            f"Expected a backtest at {path}, but there is none. See `levibot backtest list`."
        )
    report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return {"name": name, **report}
