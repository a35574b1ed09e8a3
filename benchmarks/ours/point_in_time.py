"""The platform's point-in-time join, with its filter on knowledge time, in memory."""

from pathlib import Path

import polars as pl

from benchmarks.worker import Arguments, Task, serve
from levibot_core.features.point_in_time import join_as_known


def prepare(arguments: Arguments) -> Task:
    """Arguments: `folder` with `features.parquet` and the spine `spine`, the feature columns `names`."""
    folder = Path(arguments["folder"])
    spine = pl.read_parquet(folder / f"{arguments['spine']}.parquet")
    features = pl.read_parquet(folder / "features.parquet")
    names = list(arguments["names"])
    return Task(
        run=lambda: join_as_known(spine, features, names),
        describe=lambda joined: {"rows": joined.height, "checksum": float(joined[names[0]].sum())},
        packages=("polars", "numpy"),
    )


if __name__ == "__main__":
    serve(prepare)
