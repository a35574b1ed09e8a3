"""The `levibot` command and its sub-commands. Each command lives in a module of its own beside this one."""

import os
import sys

import typer
from rich.markup import escape

from levibot_core.errors import LevibotError
from levibot_pipelines.cli import (
    audit,
    backtest,
    drift,
    drill,
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
app.add_typer(models.app, name="models")
app.add_typer(features.app, name="features")
app.add_typer(online.app, name="online")
app.add_typer(backtest.app, name="backtest")
app.add_typer(audit.app, name="audit")
app.add_typer(drill.app, name="drill")


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


if __name__ == "__main__":
    main()
