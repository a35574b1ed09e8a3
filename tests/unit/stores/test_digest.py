"""The digest of a table: same content, same digest; any difference, another."""

from datetime import UTC, datetime

import polars as pl

from levibot_core.schemas import TIMESTAMP
from levibot_core.stores.digest import frame_digest


def table(**changes: pl.Series) -> pl.DataFrame:
    columns = {
        "symbol": pl.Series(["BTC/USDT", "ETH/USDT"]),
        "ts": pl.Series([datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC)], dtype=TIMESTAMP),
        "label": pl.Series([0, 1], dtype=pl.Int8),
        "x": pl.Series([0.5, -0.25]),
    }
    return pl.DataFrame(columns | changes)


def test_chunks_and_slices_do_not_matter() -> None:
    whole = table()
    assert frame_digest(pl.concat([whole.head(1), whole.tail(1)], rechunk=False)) == frame_digest(whole)
    assert frame_digest(pl.concat([whole, whole]).slice(2)) == frame_digest(whole)


def test_the_digest_never_changes_between_versions() -> None:
    assert frame_digest(table()) == "969208b938022aa9d9e50fff9bc78ab27ced5203ac05a3b0c02253972b4940c8"


def test_every_difference_shows() -> None:
    variants = [
        table(),
        table().reverse(),
        table().head(1),
        table().select("ts", "symbol", "label", "x"),
        table().rename({"x": "y"}),
        table(x=pl.Series([0.5, -0.25000000000000006])),
        table(x=pl.Series([0.5, -0.25], dtype=pl.Float32)),
        table(x=pl.Series([0.0, -0.25])),
        table(x=pl.Series([-0.0, -0.25])),
        table(x=pl.Series([None, -0.25])),
        table(x=pl.Series([0.5, None])),
        table(symbol=pl.Series(["BTC/USDTE", "TH/USDT"])),
        table(symbol=pl.Series([None, "ETH/USDT"])),
        table(ts=table()["ts"].dt.offset_by("1s")),
    ]
    assert len({frame_digest(variant) for variant in variants}) == len(variants)
