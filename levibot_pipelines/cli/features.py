"""`levibot features`: what the features are, and what one of them is now.

Attack, audit, parity and snapshots have modules of their own beside this one.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from levibot_core.config import load_settings
from levibot_core.errors import ConfigurationError, MarketDataUnavailableError
from levibot_core.features.dictionary import data_dictionary
from levibot_core.features.registry import FeatureSpec, load_registry, newest_version
from levibot_core.stores.files import write_text_atomically
from levibot_core.stores.paths import Home
from levibot_pipelines.cli import snapshots
from levibot_pipelines.cli.explanation import explain_now, facts_of, record_of
from levibot_pipelines.cli.output import JsonOption, messages, print_facts, print_json, print_table
from levibot_pipelines.cli.parity import parity
from levibot_pipelines.workspace import Workspace

app = typer.Typer(help="What the features are, how they are watched, and training snapshots.", no_args_is_help=True)
app.add_typer(snapshots.app, name="snapshots")
app.command("audit")(snapshots.audit_snapshot)
app.command("parity")(parity)

NameArgument = Annotated[str, typer.Argument(help="Name of a feature.")]
SetOption = Annotated[
    str, typer.Option("--set", help="Version of the feature set.", default_factory=lambda: load_settings().feature_set)
]


@app.command("list")
def list_features(
    version: SetOption,
    family: Annotated[str | None, typer.Option(help="Only features of this family, such as log_return.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the features: window and warm-up in bars, unit, and the formula in words."""
    every = load_registry(version).features
    specs = [spec for spec in every if family in (None, spec.family)]
    if not specs:
        raise ConfigurationError(
            f"Expected a family of {', '.join(sorted({spec.family for spec in every}))}, was {family!r}."
        )
    if as_json:
        keys = ("name", "window", "warm_up", "unit", "family", "timeframe", "inputs", "formula", "since")
        print_json([{key: getattr(spec, key) for key in keys} for spec in specs])
        return
    print_table(
        f"Feature set {version}: {len(specs)} features",
        ("name", "family", "window", "warm-up", "unit", "formula"),
        [(spec.name, spec.family, spec.window, spec.warm_up, spec.unit, spec.formula) for spec in specs],
    )


@app.command("show")
def show_feature(name: NameArgument, version: SetOption, as_json: JsonOption = False) -> None:
    """Show one feature's definition."""
    definition = asdict(_feature(name, version))
    if as_json:
        print_json(definition)
        return
    print_facts(name, [(key, _shown(value)) for key, value in definition.items()])


@app.command("explain")
def explain_feature(
    name: NameArgument,
    version: SetOption,
    symbol: Annotated[str | None, typer.Option(help="Trading pair; the first of LEVIBOT_SYMBOLS if left out.")] = None,
    at: Annotated[str | None, typer.Option(help="Instant (UTC), such as 2023-04-01T12:00; now if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain one feature: its formula, and its value in the lake with window, inputs and how unusual it is."""
    spec = _feature(name, version)
    settings = load_settings()
    # Asking what a feature is makes no home.
    workspace = Workspace(settings, Home.at(settings.home))
    explanation = note = None
    try:
        explanation = explain_now(workspace, spec, version, symbol or settings.symbols[0], at)
    except MarketDataUnavailableError as error:
        note = str(error)
    if as_json:
        print_json({"definition": asdict(spec), "now": explanation and record_of(explanation), "note": note})
        return
    definition = [("formula", spec.formula), ("unit", spec.unit), ("warm-up in bars", spec.warm_up)]
    print_facts(name, definition + (facts_of(explanation) if explanation else []))
    if note:
        messages.print(f"No value to explain: {note}", soft_wrap=True, markup=False)


@app.command("document")
def document(
    path: Annotated[Path, typer.Argument(help="The page.")] = Path("docs/features.md"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when the page is out of date.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the data dictionary, the page about every feature there is, from the registry."""
    feature_set = load_registry(newest_version())
    page = data_dictionary(feature_set)
    current = path.exists() and path.read_text("utf-8") == page
    if check and not current:
        raise ConfigurationError(
            f"Expected {path} to say what features.yml says, was out of date or missing. "
            "Run `levibot features document` and commit the page."
        )
    if not current:
        write_text_atomically(path, page)
    if as_json:
        print_json({"path": str(path), "features": len(feature_set.features), "changed": not current})
        return
    state = "is up to date" if current else "was written"
    messages.print(f"{path} {state}: {len(feature_set.features)} features", soft_wrap=True)


def _feature(name: str, version: str) -> FeatureSpec:
    for spec in load_registry(version).features:
        if spec.name == name:
            return spec
    raise ConfigurationError(f"Expected a feature of set {version} (`levibot features list`), was {name!r}.")


def _shown(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{key} {of}" for key, of in value.items()) or "-"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else value


@app.command("attack")
def attack(
    as_json: JsonOption = False,
    seed: Annotated[
        int, typer.Option(min=0, help="Chooses the simulated markets, the attacked instants and the noise.")
    ] = 7,
) -> None:
    """Plant leaks in a training pipeline: each must be caught, and nothing else raise an alarm."""
    from levibot_pipelines.cli.attack import attack  # Seconds of libraries that other commands do not need.

    attack(as_json, seed)
