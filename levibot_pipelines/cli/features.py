"""`levibot features`: the feature definitions."""

from dataclasses import asdict
from typing import Annotated

import typer

from levibot_core.errors import ConfigurationError
from levibot_core.features.registry import load_registry
from levibot_pipelines.cli import snapshots
from levibot_pipelines.cli.attack import attack
from levibot_pipelines.cli.output import JsonOption, print_facts, print_json, print_table
from levibot_pipelines.cli.parity import parity
from levibot_pipelines.workspace import FEATURE_SET_VERSION

app = typer.Typer(help="Feature definitions.", no_args_is_help=True)
app.add_typer(snapshots.app, name="snapshots")
app.command("audit")(snapshots.audit_snapshot)
app.command("parity")(parity)
app.command("attack")(attack)


@app.command("list")
def list_features(as_json: JsonOption = False) -> None:
    """List every feature: window and warm-up in bars, and unit."""
    specs = load_registry(FEATURE_SET_VERSION).features
    if as_json:
        print_json(
            [{"name": spec.name, "window": spec.window, "warm_up": spec.warm_up, "unit": spec.unit} for spec in specs]
        )
        return
    print_table(
        f"Feature set {FEATURE_SET_VERSION}: {len(specs)} features",
        ("name", "family", "window", "warm-up", "unit", "formula"),
        [(spec.name, spec.family, spec.window, spec.warm_up, spec.unit, spec.formula) for spec in specs],
    )


@app.command("show")
def show_feature(name: Annotated[str, typer.Argument(help="Name of a feature.")], as_json: JsonOption = False) -> None:
    """Show one feature's definition."""
    by_name = {spec.name: spec for spec in load_registry(FEATURE_SET_VERSION).features}
    if name not in by_name:
        raise ConfigurationError(
            f"Expected a feature of set {FEATURE_SET_VERSION} (`levibot features list`), was {name!r}."
        )
    definition = asdict(by_name[name])
    if as_json:
        print_json(definition)
        return
    print_facts(name, list(definition.items()))
