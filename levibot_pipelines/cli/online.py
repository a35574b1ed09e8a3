"""`levibot online`: what the inference API reads, and filling it again."""

import time
from datetime import UTC, datetime

import typer

from levibot_core.config import load_settings
from levibot_core.stores.online import FeatureVector
from levibot_pipelines.cli.output import JsonOption, print_json, print_table
from levibot_pipelines.workspace import Workspace

app = typer.Typer(no_args_is_help=True, help="The newest feature vectors, which the inference API reads.")


@app.command("show")
def show(as_json: JsonOption = False) -> None:
    """Show the newest vector of every symbol: its bar, its age, how many features it has."""
    workspace = Workspace.open(load_settings())
    store, symbols = workspace.online_store, workspace.settings.symbols
    vectors, known_at_ms = store.get_many(symbols), store.last_known_at_ms(symbols)
    now_ms = time.time_ns() // 1_000_000
    rows = [_facts(symbol, vectors.get(symbol), known_at_ms.get(symbol), now_ms) for symbol in symbols]
    if as_json:
        print_json({"store": store.place, "vectors": rows})
        return
    columns = ("symbol", "state", "known at", "age, s", "set", "features", "source")
    print_table(f"Online features in {store.place}", columns, [tuple(row.values()) for row in rows])


@app.command("warm-up")
def warm_up(as_json: JsonOption = False) -> None:
    """Put the newest vectors of the lake into the store; needed after a Redis server lost its memory."""
    # Brings Polars and the feature kernels, which showing does without.
    from levibot_pipelines.online import warm_up as fill

    workspace = Workspace.open(load_settings())
    vectors = fill(workspace)
    incomplete = {symbol: list(names) for symbol, names in vectors.incomplete.items()}
    put = [vector.symbol for vector in vectors.complete]
    if as_json:
        print_json({"store": workspace.online_store.place, "put": put, "incomplete": incomplete})
        return
    rows = [(symbol, "put") for symbol in put]
    rows += [(symbol, f"left out, without {', '.join(names)}") for symbol, names in incomplete.items()]
    print_table(f"Online features in {workspace.online_store.place}", ("symbol", "outcome"), rows)


def _facts(symbol: str, vector: FeatureVector | None, known_at_ms: int | None, now_ms: int) -> dict[str, object]:
    state = "served" if vector else ("expired" if known_at_ms is not None else "none")
    return {
        "symbol": symbol,
        "state": state,
        "known_at": None if known_at_ms is None else f"{datetime.fromtimestamp(known_at_ms / 1000, tz=UTC):%FT%TZ}",
        "age_s": None if known_at_ms is None else (now_ms - known_at_ms) // 1000,
        "feature_set": vector.feature_set if vector else None,
        "features": len(vector.values) if vector else None,
        "source": vector.source_kind if vector else None,
    }
