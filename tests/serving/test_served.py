import json
from collections.abc import Callable

import pytest

from levibot_core.models.bundle import ModelBundle
from levibot_serving.served import judge


def test_only_an_explicit_yes_on_a_real_market_is_tradable(lightgbm_bundle: Callable[..., ModelBundle]) -> None:
    tags = {"tradable": "true", "reasons": "[]"}
    assert judge(lightgbm_bundle(source_kind="recorded").manifest, tags) == (True, ())
    assert judge(lightgbm_bundle(source_kind="exchange").manifest, tags) == (True, ())


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({}, "no tag 'tradable'"),
        ({"tradable": "True"}, "neither true nor false"),
        ({"tradable": "false"}, "without a reason"),
        ({"tradable": "true", "reasons": "{"}, "not a JSON list"),
        ({"tradable": "true", "reasons": "[1]"}, "not a JSON list"),
        ({"tradable": "true", "reasons": '{"a": "b"}'}, "not a JSON list"),
    ],
)
def test_a_tag_that_is_missing_or_unreadable_is_not_tradable(
    lightgbm_bundle: Callable[..., ModelBundle], tags: dict[str, str], reason: str
) -> None:
    tradable, reasons = judge(lightgbm_bundle().manifest, tags)
    assert not tradable
    assert any(reason in said for said in reasons)


def test_the_reasons_of_the_gates_are_passed_on(lightgbm_bundle: Callable[..., ModelBundle]) -> None:
    said = ["the backtest lost to buy-and-hold after costs"]
    assert judge(lightgbm_bundle().manifest, {"tradable": "false", "reasons": json.dumps(said)}) == (False, tuple(said))


def test_a_simulated_market_is_never_tradable_whatever_the_tag_says(
    lightgbm_bundle: Callable[..., ModelBundle],
) -> None:
    tradable, reasons = judge(lightgbm_bundle(source_kind="simulated").manifest, {"tradable": "true"})
    assert not tradable
    assert "simulated" in reasons[0]


def test_the_base_rate_is_never_tradable_whatever_the_tag_says(base_rate: ModelBundle) -> None:
    once = "it is the base rate: it knows how often prices rose, and nothing about now"
    tags = {"tradable": "true", "reasons": json.dumps([once])}
    assert judge(base_rate.manifest, tags) == (False, (once,))
