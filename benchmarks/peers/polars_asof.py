"""A bare Polars as-of join on the knowledge time, by symbol; a spine in any order is sorted first and put back after.

The frames come sorted, as the function wants them. It knows no revisions: with them its answers would be wrong.
"""

from pathlib import Path

import polars as pl

from benchmarks.worker import Arguments, Task, serve

_PLACE = "place"


def prepare(arguments: Arguments) -> Task:
    """Arguments: `folder` with `features.parquet` and the spine `spine`, the feature columns `names`, `sort`."""
    folder = Path(arguments["folder"])
    spine = pl.read_parquet(folder / f"{arguments['spine']}.parquet")
    features = pl.read_parquet(folder / "features.parquet").select("symbol", "ts", "known_at", *arguments["names"])

    def joined() -> pl.DataFrame:
        if not arguments["sort"]:
            return _join(spine, features)
        ordered = spine.with_row_index(_PLACE).sort("symbol", "time")
        return _join(ordered, features).sort(_PLACE).drop(_PLACE)

    return Task(
        run=joined,
        describe=lambda result: {"rows": result.height, "checksum": float(result[arguments["names"][0]].sum())},
        packages=("polars",),
    )


def _join(spine: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    # Sortedness within a symbol cannot be checked by the function; the inputs are made sorted.
    return spine.join_asof(features, left_on="time", right_on="known_at", by="symbol", check_sortedness=False)


if __name__ == "__main__":
    serve(prepare)
