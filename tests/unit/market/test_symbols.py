import pytest

from levibot_core.errors import UnknownSymbolError
from levibot_core.market.symbols import compact_symbol, normalize_symbol, path_symbol


@pytest.mark.parametrize(
    "spelling", ["BTC/USDT", "BTC-USDT", "BTCUSDT", "btcusdt", " btc/usdt ", "btc_usdt", "BTC:USDT"]
)
def test_every_usual_spelling_is_accepted(spelling: str) -> None:
    assert normalize_symbol(spelling) == "BTC/USDT"


@pytest.mark.parametrize(
    ("spelling", "symbol"), [("ETHBTC", "ETH/BTC"), ("1INCHUSDT", "1INCH/USDT"), ("BTCUSD", "BTC/USD")]
)
def test_joined_spellings_are_split_before_the_quote_currency(spelling: str, symbol: str) -> None:
    assert normalize_symbol(spelling) == symbol


@pytest.mark.parametrize(
    "spelling", ["", "BTC", "USDT", "BTC//USDT", "BTC/USDT/X", "../../etc/passwd", "BTC USDT", "B/USDT;"]
)
def test_anything_else_is_refused(spelling: str) -> None:
    with pytest.raises(UnknownSymbolError, match="Expected a symbol such as BTC/USDT"):
        normalize_symbol(spelling)


def test_spellings_of_the_edges() -> None:
    assert path_symbol("btcusdt") == "BTC-USDT"
    assert compact_symbol("BTC/USDT") == "BTCUSDT"
