from datetime import UTC, datetime

import polars as pl
import pytest

from levibot_core.errors import SchemaError
from levibot_core.schemas import FUNDING_RATES, TABLES


def _rates(**changes: object) -> pl.DataFrame:
    row = {
        "symbol": "BTC/USDT",
        "ts": datetime(2025, 1, 1, tzinfo=UTC),
        "rate": 0.0001,
        "known_at": datetime(2025, 1, 1, tzinfo=UTC),
        "revision": 0,
        "venue": "binance",
    }
    return pl.DataFrame([row | changes], schema=FUNDING_RATES.polars_schema)


def test_enforce_returns_catalogue_order_sorted_by_key() -> None:
    later = _rates(ts=datetime(2025, 1, 2, tzinfo=UTC))
    shuffled = pl.concat([later, _rates()]).select(sorted(FUNDING_RATES.polars_schema.names()))

    enforced = FUNDING_RATES.enforce(shuffled)

    assert enforced.columns == FUNDING_RATES.polars_schema.names()
    assert enforced["ts"].is_sorted()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (_rates().drop("rate"), "column rate is missing"),
        (_rates().with_columns(mood=pl.lit("good")), "column mood is not in the catalogue"),
        (_rates().with_columns(pl.col("rate").cast(pl.Float32)), "column rate expected Float64, was Float32"),
        (_rates(rate=None), "column rate has 1 nulls"),
        (pl.concat([_rates(), _rates()]), "1 rows repeat the key"),
    ],
)
def test_enforce_refuses_what_departs_from_the_catalogue(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        FUNDING_RATES.enforce(frame)


def test_every_column_of_every_table_is_described() -> None:
    for table in TABLES.values():
        assert table.description
        assert set(table.key) <= set(table.polars_schema.names())
        assert all(column.description for column in table.columns)
