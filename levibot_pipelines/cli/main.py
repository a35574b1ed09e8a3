"""The `levibot` command and its sub-commands. Each command lives in a module of its own beside this one."""

import atexit
import os
import sys
from typing import NoReturn

import typer
from rich.markup import escape

from levibot_core.errors import LevibotError
from levibot_pipelines.cli import (
    audit,
    backtest,
    certify,
    drift,
    features,
    lifecycle,
    models,
    online,
    predict,
    quality,
    status,
    up,
)
from levibot_pipelines.cli.output import messages

app = typer.Typer(
    name="levibot",
    help="The ML and data platform behind the LeviBot trading engines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(lifecycle.demo)
app.command("run")(lifecycle.run)
app.command("up")(up.up)
app.command("status")(status.status)
app.command("predict")(predict.predict)
app.command("quality")(quality.quality)
app.command("drift")(drift.drift)
app.command("certify")(certify.certify)
app.add_typer(models.app, name="models")
app.add_typer(features.app, name="features")
app.add_typer(online.app, name="online")
app.add_typer(backtest.app, name="backtest")
app.add_typer(audit.app, name="audit")


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
