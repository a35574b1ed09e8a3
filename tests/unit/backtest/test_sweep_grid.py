import pytest

from levibot_core.backtest.simulation_parameters import LIVE_POLICY, BacktestParameters
from levibot_core.backtest.sweep_grid import grid
from levibot_core.errors import ConfigurationError


def test_a_grid_has_every_combination_the_last_changing_fastest() -> None:
    made = grid(BacktestParameters(), ["long_threshold=0.55,0.6", "max_positions=none, 2"])

    assert [(one.long_threshold, one.max_positions) for one in made] == [(0.55, None), (0.55, 2), (0.6, None), (0.6, 2)]
    assert grid(LIVE_POLICY, []) == [LIVE_POLICY]
    (kelly,) = grid(LIVE_POLICY, ["sizing.kelly_fraction=0.5"])
    assert kelly.sizing is not None
    assert kelly.sizing.kelly_fraction == 0.5


@pytest.mark.parametrize(
    ("varied", "message"),
    [
        (["long_threshold"], "name=value,value"),
        (["long_threshold=0.5,"], "name=value,value"),
        (["leverage=2"], "leverage: Extra inputs.*They are long_threshold"),
        (["taker_fee=much"], "taker_fee: Input should be a valid number"),
        (["long_threshold=0.4"], "expected short below long"),
        (["taker_fee=" + ",".join(map(str, range(101)))] * 2, "at most 10,000 configurations, was 10,201"),
    ],
)
def test_a_grid_that_is_none_is_refused(varied: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        grid(BacktestParameters(), varied)
