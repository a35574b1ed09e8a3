"""Feast's historical retrieval with its DuckDB offline store, over a Parquet file.

The feature view has the event time and, as `created_timestamp_column`, the knowledge time, which Feast uses to choose
between rows of one event time, not to leave out what was not yet known.
"""

import tempfile
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

from benchmarks.worker import Arguments, Task, serve


def prepare(arguments: Arguments) -> Task:
    """Arguments: `folder` with `features.parquet` and `spine.parquet`, the feature columns `names`, `spine_rows`."""
    folder = Path(arguments["folder"])
    names = list(arguments["names"])
    store = _store(folder, names)
    spine = pd.read_parquet(folder / "spine.parquet").rename(columns={"time": "event_timestamp"})
    sampled = spine.sample(int(arguments["spine_rows"]), random_state=0)
    references = [f"bars:{name}" for name in names]
    return Task(
        run=lambda: store.get_historical_features(entity_df=sampled, features=references).to_df(),
        describe=lambda joined: {"rows": len(joined)},
        packages=("feast", "duckdb", "pandas"),
    )


def _store(folder: Path, names: list[str]) -> FeatureStore:
    state = Path(tempfile.mkdtemp(dir=folder))
    store = FeatureStore(
        config=RepoConfig(
            project="benchmark",
            provider="local",
            registry=str(state / "registry.db"),
            offline_store={"type": "duckdb"},
            online_store={"type": "sqlite", "path": str(state / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    source = FileSource(
        path=str(folder / "features.parquet"), timestamp_field="ts", created_timestamp_column="known_at"
    )
    view = FeatureView(
        name="bars",
        entities=[symbol],
        ttl=timedelta(days=1),
        schema=[Field(name=name, dtype=Float64) for name in names],
        source=source,
    )
    store.apply([symbol, view])
    return store


if __name__ == "__main__":
    serve(prepare)
