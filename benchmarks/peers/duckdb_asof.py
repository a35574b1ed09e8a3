"""DuckDB's ASOF join on the knowledge time, over tables in its memory, into a Polars frame."""

from pathlib import Path

import duckdb

from benchmarks.worker import Arguments, Task, serve


def prepare(arguments: Arguments) -> Task:
    """Arguments: `folder` with `features.parquet` and the spine `spine`, the feature columns `names`, `threads`."""
    folder = Path(arguments["folder"])
    connection = duckdb.connect(config={"threads": int(arguments["threads"])})
    for table, file in (("spine", arguments["spine"]), ("features", "features")):
        connection.execute(f"CREATE TABLE {table} AS FROM read_parquet(?)", [str(folder / f"{file}.parquet")])
    columns = ", ".join(f"features.{name}" for name in ("ts", "known_at", *arguments["names"]))
    query = (
        f"SELECT spine.*, {columns} FROM spine ASOF LEFT JOIN features "  # noqa: S608 - names of this repository
        "ON spine.symbol = features.symbol AND spine.time >= features.known_at"
    )
    return Task(
        run=lambda: connection.sql(query).pl(),
        describe=lambda joined: {"rows": joined.height, "checksum": float(joined[arguments["names"][0]].sum())},
        packages=("duckdb", "polars"),
    )


if __name__ == "__main__":
    serve(prepare)
