import numpy as np
import pytest

from levibot_core.errors import BundleError, UnknownSymbolError
from levibot_core.models.calibration import PlattCalibrator
from levibot_core.models.conformal import ReturnInterval, interval_text
from levibot_core.models.uncertainty import UncertaintyParts, probability_interval, read_uncertainty, return_outlook
from levibot_core.models.venn_abers import VennAbersCalibrator
from levibot_core.models.volatility_fitting import train_volatility

FEATURES = ("calm", "noise")
SYMBOLS = ("BTC/USDT", "ETH/USDT")
VALUES = {"calm": 0.3, "noise": -0.2, "other": 9.0}


@pytest.fixture(scope="module")
def parts() -> dict[str, bytes]:
    """The optional parts of a bundle for 12 bars."""
    generator = np.random.default_rng(0)
    matrix = np.column_stack([generator.normal(size=(400, 2)), generator.integers(0, 2, 400)])
    volatility = np.exp(-6.0 + matrix[:, 0])
    trained = train_volatility(
        (matrix[:300], volatility[:300]), (matrix[300:], volatility[300:]), FEATURES, 12, seed=1, max_rounds=10
    )
    interval = interval_text(ReturnInterval(0.9, 1.7, 0.005))
    return {
        "volatility.txt": trained.booster_text.encode(),
        "volatility.json": trained.settings_text.encode(),
        "interval.json": interval.encode(),
    }


def test_all_parts_give_a_volatility_and_limits(parts: dict[str, bytes]) -> None:
    outlook = return_outlook(read_uncertainty(parts, 12), "ETH/USDT", VALUES, SYMBOLS)
    assert outlook is not None
    assert (outlook.level, outlook.volatility > 0.0) == (0.9, True)
    assert outlook.lower == pytest.approx(np.expm1(-1.7 * outlook.volatility))
    assert outlook.upper == pytest.approx(np.expm1(1.7 * outlook.volatility))
    with pytest.raises(UnknownSymbolError):
        return_outlook(read_uncertainty(parts, 12), "SOL/USDT", VALUES, SYMBOLS)


def test_a_head_alone_gives_no_limits_and_no_part_gives_nothing(parts: dict[str, bytes]) -> None:
    head_alone = {name: content for name, content in parts.items() if name != "interval.json"}
    outlook = return_outlook(read_uncertainty(head_alone, 12), "BTC/USDT", VALUES, SYMBOLS)
    assert outlook is not None
    assert (outlook.level, outlook.lower, outlook.upper) == (None, None, None)
    assert read_uncertainty({"another.bin": b"x"}, 12) == UncertaintyParts()
    assert return_outlook(UncertaintyParts(), "BTC/USDT", VALUES, SYMBOLS) is None


@pytest.mark.parametrize("lost", ["volatility.txt", "volatility.json"])
def test_a_part_without_the_one_it_needs_is_refused(parts: dict[str, bytes], lost: str) -> None:
    with pytest.raises(BundleError, match=lost):
        read_uncertainty({name: content for name, content in parts.items() if name != lost}, 12)


def test_parts_of_another_horizon_or_in_no_text_are_refused(parts: dict[str, bytes]) -> None:
    with pytest.raises(BundleError, match="5 bars"):
        read_uncertainty(parts, 5)
    with pytest.raises(BundleError, match="UTF-8"):
        read_uncertainty({**parts, "interval.json": b"\xff"}, 12)


def test_only_venn_abers_knows_an_interval_of_the_probability() -> None:
    assert probability_interval(PlattCalibrator(1.0, 0.0), np.array([0.4])) is None
    assert probability_interval(VennAbersCalibrator((), (0.2,), (0.4,)), np.array([0.4])) == (0.2, 0.4)
