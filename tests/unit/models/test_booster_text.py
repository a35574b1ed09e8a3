import re
from collections.abc import Callable

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import BundleError
from levibot_core.models.booster_text import check_booster_text

COLUMNS = ("momentum", "volatility", "symbol_code")


@pytest.fixture(scope="module")
def text() -> str:
    """A booster with numeric and categorical splits."""
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(3000, 3))
    matrix[:, 2] = generator.integers(0, 7, 3000)
    chance = 1 / (1 + np.exp(-matrix[:, 0] - matrix[:, 2] % 3))
    data = lightgbm.Dataset(
        matrix,
        (generator.random(3000) < chance).astype(float),
        feature_name=list(COLUMNS),
        categorical_feature=[2],
        params={"verbosity": -1},
    )
    parameters = {"objective": "binary", "verbosity": -1, "num_leaves": 8, "min_data_per_group": 10, "num_threads": 1}
    return str(lightgbm.train(parameters, data, 4).model_to_string())


def replace_first(key: str, change: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    """A change to the values of the first line of that key, with the size of its tree corrected."""

    def apply(text: str) -> str:
        match = re.search(rf"^{key}=(.*)$", text, re.MULTILINE)
        assert match is not None
        changed = f"{key}={' '.join(change(match[1].split()))}"
        sizes = re.search(r"^tree_sizes=(\d+)", text, re.MULTILINE)
        assert sizes is not None
        altered = text[: match.start()] + changed + text[match.end() :]
        if match.start() < sizes.start():
            return altered
        size = int(sizes[1]) + len(changed) - len(match[0])
        return altered[: sizes.start()] + f"tree_sizes={size}" + altered[sizes.end() :]

    return apply


def test_what_lightgbm_writes_is_accepted(text: str) -> None:
    assert "num_cat=1" in text or "num_cat=2" in text
    check_booster_text(text, COLUMNS)


def test_a_model_without_a_single_split_is_accepted() -> None:
    data = lightgbm.Dataset(np.zeros((50, 3)), np.arange(50) % 2, feature_name=list(COLUMNS), params={"verbosity": -1})
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "feature_pre_filter": False}
    check_booster_text(lightgbm.train(parameters, data, 2).model_to_string(), COLUMNS)


@settings(max_examples=100, deadline=None)
@given(share=st.floats(0, 0.999))
def test_a_text_cut_anywhere_before_the_end_of_its_trees_is_refused(text: str, share: float) -> None:
    whole = text.index("end of trees\n") + len("end of trees\n")
    with pytest.raises(BundleError):
        check_booster_text(text[: int(whole * share)], COLUMNS)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_token_that_moved_inside_a_tree_is_refused_or_harmless(text: str, data: st.DataObject) -> None:
    """Whatever is accepted must still be a tree that LightGBM can read: it would end this process otherwise."""
    start, end = text.index("Tree=0"), text.index("end of trees")
    tokens = [match.span() for match in re.finditer(r"[^ \n=]+", text[:end]) if match.start() >= start]
    (first, last), (other, other_last) = (data.draw(st.sampled_from(tokens)) for _ in range(2))
    altered = text[:first] + text[other:other_last] + text[last:]
    try:
        check_booster_text(altered, COLUMNS)
    except BundleError:
        return
    predicted = lightgbm.Booster(model_str=altered).predict(np.zeros((2, 3)), num_threads=1)
    assert np.isfinite(predicted).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace_first("objective", lambda _: ["regression"]), "objective"),
        (replace_first("num_class", lambda _: ["3"]), "num_class"),
        (replace_first("feature_names", lambda names: names[::-1]), "trained on the columns"),
        (replace_first("feature_infos", lambda infos: infos[1:]), "number of columns"),
        (replace_first("left_child", lambda places: ["0", *places[1:]]), "not a tree"),
        (replace_first("left_child", lambda places: ["99", *places[1:]]), "not a tree"),
        (replace_first("right_child", lambda places: ["-99", *places[1:]]), "not a tree"),
        (replace_first("right_child", lambda places: places[:-1]), "misses a right_child"),
        (replace_first("split_feature", lambda places: ["3", *places[1:]]), "unknown column"),
        (replace_first("decision_type", lambda kinds: ["64", *kinds[1:]]), "unknown way"),
        (replace_first("decision_type", lambda kinds: ["1"] * len(kinds)), "category sets"),
        (replace_first("cat_boundaries", lambda places: [*places[:-1], "40"]), "category sets"),
        (replace_first("num_cat", lambda _: ["0"]), "categories it does not have"),
        (replace_first("leaf_value", lambda values: values[:-1]), "no value in a leaf"),
        (replace_first("leaf_value", lambda values: ["nan", *values[1:]]), "more than numbers"),
        (replace_first("leaf_value", lambda values: ["1e999", *values[1:]]), "no value in a leaf"),
        (replace_first("threshold", lambda values: ["1e999", *values[1:]]), "no number"),
        (replace_first("num_leaves", lambda _: ["100000000"]), "no value in a leaf"),
        (replace_first("is_linear", lambda _: ["1"]), "no shape"),
        (lambda text: text.replace("split_gain=", "split_pain=", 1), "do not belong"),
        (lambda text: text.replace("Tree=1\n", "Tree=7\n", 1), "not where it should be"),
        (lambda text: text.replace("version=v4", "version=v9", 1), "version"),
        (lambda text: text.replace("tree_sizes=", "tree_sizes=1 ", 1), "not where it should be"),
        (lambda text: re.sub(r"tree_sizes=.*", "tree_sizes=", text), "do not end"),
        (lambda text: "ä" + text, "ascii"),
        (lambda text: text[:9], "header has no end"),
    ],
)
def test_a_text_that_contradicts_itself_is_refused(text: str, change: Callable[[str], str], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_booster_text(change(text), COLUMNS)
