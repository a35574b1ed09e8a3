import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import ConfigurationError
from levibot_core.market.timeframe import Timeframe


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("1m", 60_000), ("5m", 300_000), ("1h", 3_600_000), ("1d", 86_400_000)]
)
def test_lengths(text: str, milliseconds: int) -> None:
    assert Timeframe.parse(text).milliseconds == milliseconds


@pytest.mark.parametrize("text", ["", "5", "m", "0m", "7m", "2d", "5M", "-5m", "5 m", "1w"])
def test_a_length_that_does_not_divide_a_day_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="Expected a timeframe"):
        Timeframe.parse(text)


@given(st.integers(0, 10**13), st.sampled_from(["1m", "5m", "15m", "1h", "4h", "1d"]))
@settings(deadline=None)
def test_the_floor_is_the_open_of_the_bar_that_holds_the_instant(instant: int, name: str) -> None:
    timeframe = Timeframe.parse(name)

    opened = timeframe.floor(instant)

    assert opened <= instant < opened + timeframe.milliseconds
    assert opened % timeframe.milliseconds == 0


def test_crypto_trades_every_day_of_the_year() -> None:
    assert Timeframe.parse("5m").bars_per_year == 105_120
