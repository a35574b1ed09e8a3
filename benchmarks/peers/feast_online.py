"""Read the newest features of some symbols from Feast's online store, as its documentation does."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

from benchmarks.worker import Arguments, Task, call_times_ms, serve

VIEW = "bars"


def prepare(arguments: Arguments) -> Task:
    """Arguments: `folder`, `redis` (host:port, None is SQLite), `stored`, `symbols`, number of `features`, `calls`."""
    state = Path(tempfile.mkdtemp(dir=arguments["folder"]))
    names = [f"feature_{index}" for index in range(int(arguments["features"]))]
    online_store = (
        {"type": "redis", "connection_string": arguments["redis"]}
        if arguments["redis"]
        else {"type": "sqlite", "path": str(state / "online.db")}
    )
    store = _store(state, names, online_store)
    store.write_to_online_store(VIEW, _rows(list(arguments["stored"]), names))
    references = [f"{VIEW}:{name}" for name in names]
    entities = [{"symbol": symbol} for symbol in arguments["symbols"]]
    calls = int(arguments["calls"])

    def read() -> dict[str, Any]:
        found: dict[str, Any] = store.get_online_features(features=references, entity_rows=entities).to_dict()
        return found

    if None in read()[names[-1]]:
        raise SystemExit("Expected every symbol to be found in Feast's online store.")
    return Task(
        run=lambda: call_times_ms(read, warm_up=calls // 10, timed=calls),
        describe=lambda times: {"samples_ms": times},
        facts={"features": len(names), "symbols": len(entities)},
        packages=("feast", "redis"),
    )


def _store(state: Path, names: list[str], online_store: dict[str, Any]) -> FeatureStore:
    store = FeatureStore(
        config=RepoConfig(
            project="benchmark",
            provider="local",
            registry=str(state / "registry.db"),
            online_store=online_store,
            entity_key_serialization_version=3,
        )
    )
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    view = FeatureView(
        name=VIEW,
        entities=[symbol],
        ttl=timedelta(days=1),
        schema=[Field(name=name, dtype=Float64) for name in names],
        source=FileSource(path=str(state / "unused.parquet"), timestamp_field="ts"),
    )
    store.apply([symbol, view])
    return store


def _rows(symbols: list[str], names: list[str]) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(len(symbols), len(names)))
    return pd.DataFrame(values, columns=names).assign(symbol=symbols, ts=datetime.now(UTC))


if __name__ == "__main__":
    serve(prepare)
