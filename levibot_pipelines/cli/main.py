"""The `levibot` command: its groups and commands, each imported from a module of its own when it is called."""

import atexit
import os
import sys
from typing import NoReturn

import typer
from rich.markup import escape

from levibot_core.errors import LevibotError
from levibot_pipelines.cli.lazy import lazy_group
from levibot_pipelines.cli.output import messages

_HERE = "levibot_pipelines.cli"

models = typer.Typer(
    cls=lazy_group(
        {
            "card": f"{_HERE}.cards:app",
            "promote": f"{_HERE}.champions:promote",
            "rollback": f"{_HERE}.champions:rollback",
            "history": f"{_HERE}.champions:history",
            "compare": f"{_HERE}.champions:compare",
            "guard": f"{_HERE}.guard:guard",
            "list": f"{_HERE}.models:list_models",
            "rebuild": f"{_HERE}.models:rebuild",
        }
    ),
    no_args_is_help=True,
)
app = typer.Typer(
    name="levibot",
    cls=lazy_group(
        {
            "demo": f"{_HERE}.lifecycle:demo",
            "run": f"{_HERE}.lifecycle:run",
            "up": f"{_HERE}.up:up",
            "status": f"{_HERE}.status:status",
            "predict": f"{_HERE}.predict:predict",
            "quality": f"{_HERE}.quality:quality",
            "drift": f"{_HERE}.drift:drift",
            "models": f"{_HERE}.main:models",
            "features": f"{_HERE}.features:app",
            "online": f"{_HERE}.online:app",
            "backtest": f"{_HERE}.backtest:app",
            "audit": f"{_HERE}.audit:app",
            "alerts": f"{_HERE}.alerts:app",
            "users": f"{_HERE}.users:app",
            "keys": f"{_HERE}.keys:app",
            "certify": f"{_HERE}.certify:certify",
            "drill": f"{_HERE}.drill:app",
        }
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@models.callback()
def _models() -> None:
    """Registered models: versions, aliases, gates, cards."""


@app.callback()
def _levibot() -> None:
    """The ML and data platform behind the LeviBot trading engines."""


def main() -> None:
    """Run the command; an error a person can act on is one message, not a traceback."""
    # Read when MLflow is first imported; its chatter would stand between ours.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # Read when LightGBM is first imported: threads that wait for work sleep instead of spinning, which on a busy
    # machine takes twenty times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        app()
    except LevibotError as error:
        messages.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        messages.print("Stopped.")
        sys.exit(130)


def console() -> NoReturn:
    """`main` as a process: whatever was registered for the end runs, then the process ends at once.

    Taking the interpreter apart would take a second, and DuckDB's binding prints fifty lines about objects that were
    still in use wherever PyTorch and dbt are loaded as well. Remove when `levibot demo` ends quietly without it.
    """
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    console()
