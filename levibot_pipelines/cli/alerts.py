"""`levibot alerts`: what a person should have looked at, and whether anybody was told."""

from typing import Annotated

import typer
from rich.markup import escape

from levibot_core.config import load_settings
from levibot_core.stores.paths import Home
from levibot_pipelines.alerts import DELIVERED, raise_alert, read_alerts
from levibot_pipelines.cli.output import JsonOption, print_facts, print_json, print_table, working

app = typer.Typer(help="Alerts of this home, and whether anybody was told.", no_args_is_help=True)


@app.command("list")
def list_alerts(
    last: Annotated[int, typer.Option(min=1, help="How many, from the newest.")] = 20, as_json: JsonOption = False
) -> None:
    """List the newest alerts."""
    alerts = read_alerts(Home.at(load_settings().home))[-last:][::-1]
    if as_json:
        print_json([alert.model_dump(mode="json") for alert in alerts])
        return
    print_table(
        "Alerts",
        ("time, UTC", "source", "what", "told"),
        [
            (f"{alert.time:%Y-%m-%d %H:%M:%S}", alert.source, escape(alert.title), escape(alert.delivery))
            for alert in alerts
        ],
    )


@app.command("test")
def test(as_json: JsonOption = False) -> None:
    """Send an alert that says it is a test; exit code 1 when nobody was told."""
    settings = load_settings()
    with working("Posting to the webhook"):
        home = Home.at(settings.home).create()
        alert = raise_alert(settings, home, "test", "A test of the alerts", "Nothing happened.")
    if as_json:
        print_json({"delivery": alert.delivery, "delivered": alert.delivery == DELIVERED})
    else:
        print_facts("Alert", [("delivery", escape(alert.delivery))])
    if alert.delivery != DELIVERED:
        raise typer.Exit(1)
