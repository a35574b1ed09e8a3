from itertools import pairwise

import pytest

from levibot_core.market.halts import Halt, known_halts


def test_the_binance_halt_of_march_2023_is_on_record() -> None:
    halts = [halt for halt in known_halts("binance") if halt.start_ms <= 1_679_660_000_000 < halt.end_ms]

    assert [str(halt) for halt in halts] == [
        "binance 2023-03-24 11:27 to 2023-03-24 14:00 UTC: "
        "Spot trading suspended, the matching engine failed on a trailing stop order"
    ]


def test_halts_are_in_order_and_do_not_overlap() -> None:
    halts = known_halts("binance")

    assert all(before.end_ms <= after.start_ms for before, after in pairwise(halts))


def test_an_exchange_without_a_record_has_no_halts() -> None:
    assert known_halts("nowhere") == ()


@pytest.mark.parametrize(
    ("symbols", "venue", "symbol", "concerned"),
    [
        (None, "binance", "BTC/USDT", True),
        (None, "recorded:binance", "BTC/USDT", True),
        (None, "recorded", "BTC/USDT", False),
        (None, "mexc", "BTC/USDT", False),
        (frozenset({"ETH/USDT"}), "binance", "ETH/USDT", True),
        (frozenset({"ETH/USDT"}), "binance", "BTC/USDT", False),
    ],
)
def test_a_halt_concerns_its_venue_recorded_or_not_and_its_symbols(
    symbols: frozenset[str] | None, venue: str, symbol: str, concerned: bool
) -> None:
    assert Halt("binance", 0, 1, "maintenance", symbols).concerns(venue, symbol) is concerned
