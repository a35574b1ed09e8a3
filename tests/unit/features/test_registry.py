"""The registry: complete, checked against schema and kernels, and hashed by meaning."""

from dataclasses import replace
from importlib.resources import files

import polars as pl
import pytest
import yaml

from levibot_core.errors import ConfigurationError
from levibot_core.features.inputs import SERIES
from levibot_core.features.kernels import FAMILIES
from levibot_core.features.registry import load_registry, newest_version, parse_registry
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import FEATURES

TEXT = files("levibot_core.features").joinpath("features.yml").read_text("utf-8")

MINIMAL = """
versions: [v1, v2]
features:
  - {name: one, family: sma_gap, inputs: [close], window: 5, warm_up: 5, unit: fraction, formula: a gap, since: v1}
  - {name: two, family: rsi, inputs: [close_change], window: 14, warm_up: 15, unit: points, formula: an rsi, since: v2}
"""

SEVERAL_WINDOWS = (
    MINIMAL.replace("name: one", 'name: "one_{window}"')
    .replace("a gap", '"a gap of {window} bars"')
    .replace("window: 5, warm_up: 5", "windows: {5: 5, 9: 9}")
)


@pytest.mark.parametrize(("version", "features", "warm_up"), [("v1", 40, 289), ("v2", 245, 1055)])
def test_a_version_has_what_the_platform_promises(version: str, features: int, warm_up: int) -> None:
    feature_set = load_registry(version)
    assert feature_set.version == version
    assert len(feature_set.names) == features
    assert feature_set.warm_up == warm_up
    assert feature_set.table().polars_schema.names() == [*FEATURES.polars_schema, *feature_set.names]
    assert set(feature_set.table().polars_schema.dtypes()[3:]) == {pl.Float64()}


def test_the_newest_version_uses_every_kernel() -> None:
    assert {spec.family for spec in load_registry("v2").features} == set(FAMILIES)


def test_the_hash_ignores_the_layout_of_the_file_and_sees_every_change_of_meaning() -> None:
    feature_set = load_registry("v1")
    assert parse_registry(yaml.safe_dump(yaml.safe_load(TEXT)), "v1").sha256 == feature_set.sha256
    first, *others = feature_set.features
    variants = [
        replace(feature_set, version="v2"),
        replace(feature_set, features=tuple(others)),
        replace(feature_set, features=(*others, first)),
        replace(feature_set, features=(replace(first, window=2), *others)),
        replace(feature_set, features=(replace(first, parameters={"span": 1}), *others)),
        replace(feature_set, features=(replace(first, formula="something else"), *others)),
        replace(feature_set, features=(replace(first, timeframe="1h"), *others)),
    ]
    assert len({variant.sha256 for variant in (feature_set, *variants)}) == len(variants) + 1


def test_a_later_version_holds_the_earlier_ones() -> None:
    assert parse_registry(MINIMAL, "v1").names == ("one",)
    assert parse_registry(MINIMAL, "v2").names == ("one", "two")


def test_an_unknown_version_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"Expected a feature set of \['v1', 'v2'\], was 'v9'"):
        load_registry("v9")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("window: 5,", "window: 0,", r"\$\.features\[0\]\.window: 0 is less than the minimum"),
        ("window: 5, warm_up: 5,", "windows: {5: 5},", r"\$\.features\[0\]: .* is not valid under any"),
        ("window: 5,", "timeframe: 1h, window: 5,", "one: expected warm_up 71, was 5"),
        ("window: 5,", "timeframe: 3m, window: 5,", "one: expected a timeframe of whole bars of 5m, was 3m"),
        ("unit: fraction,", "", "'unit' is a required property"),
        ("since: v1}", "since: v1, colour: red}", "'colour' was unexpected"),
        ("name: one", "name: One more", "does not match"),
        ("warm_up: 5", "warm_up: 6", "one: expected warm_up 5, was 6"),
        ("warm_up: 15", "warm_up: 14", "two: expected warm_up 15, was 14"),
        ("family: sma_gap", "family: magic", "one: expected a family of .*, was magic"),
        ("[close]", "[price]", r"one: expected inputs of .*, was \['price'\]"),
        ("[close]", "[close, volume]", "one: expected 1 inputs, was 2"),
        ("window: 5,", "window: 5, parameters: {span: 3},", r"one: expected parameters \[\], was \['span'\]"),
        ("since: v2", "since: v3", "two: expected since one of"),
        ("name: two", "name: one", "one: expected once, was there 2 times"),
        ("versions:", "versions: [", "to be YAML, was not"),
    ],
)
def test_a_registry_that_contradicts_itself_is_refused_by_entry(before: str, after: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_registry(MINIMAL.replace(before, after, 1), "v1")


def test_every_catalogued_series_is_used_by_a_feature_or_derived_from() -> None:
    used = {name for spec in load_registry("v2").features for name in spec.inputs}
    assert set(SERIES) - used == {"leader_close"}


def test_an_entry_with_several_windows_is_a_feature_for_each() -> None:
    found = parse_registry(SEVERAL_WINDOWS, "v1").features
    assert [(spec.name, spec.window, spec.warm_up, spec.formula) for spec in found] == [
        ("one_5", 5, 5, "a gap of 5 bars"),
        ("one_9", 9, 9, "a gap of 9 bars"),
    ]


def test_earlier_names_are_those_of_every_window_or_of_the_window_they_stand_at() -> None:
    of_all, of_one = (
        [spec.replaces for spec in parse_registry(SEVERAL_WINDOWS.replace("unit", f"{text}, unit", 1), "v1").features]
        for text in ("replaces: [old]", "replaces: {9: [old, older]}")
    )
    assert of_all == [("old",), ("old",)]
    assert of_one == [(), ("old", "older")]


def test_the_newest_version_is_one_that_can_be_loaded() -> None:
    assert load_registry(newest_version()).version == newest_version() == "v2"


def test_an_earlier_name_at_a_window_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"expected replaces by one of its windows, was \['7'\]"):
        parse_registry(SEVERAL_WINDOWS.replace("unit", "replaces: {7: [old]}, unit", 1), "v1")
    with pytest.raises(ConfigurationError, match=r"\$\.features\[1\]"):
        parse_registry(MINIMAL.replace("unit: points", "replaces: {14: [old]}, unit: points"), "v1")


def test_a_set_with_higher_timeframes_is_refused_for_other_bars_than_it_is_made_for() -> None:
    load_registry("v1").require_timeframe(Timeframe.parse("1h"))
    with pytest.raises(ConfigurationError, match="Expected bars of 5m for feature set v2"):
        load_registry("v2").require_timeframe(Timeframe.parse("1h"))
