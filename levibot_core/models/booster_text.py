"""Checks LightGBM's text form of a model before LightGBM reads it.

LightGBM trusts its model files: on a truncated or altered one it reads beyond the text, and ends the process or
predicts from foreign memory. A server must not die of a file, so everything LightGBM would follow blindly (sizes,
counts, children, columns, category sets) is verified here, and what cannot be verified is refused.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from levibot_core.errors import BundleError

CLASSIFIER: Final = "binary sigmoid:1"
REGRESSION: Final = "regression"

_HEADER = {"version": "v4", "num_class": "1", "num_tree_per_iteration": "1", "label_index": "0"}
_OF_HEADER = {*_HEADER, "objective", "max_feature_idx", "feature_names", "feature_infos", "tree_sizes"}
_PER_LEAF = ("leaf_value", "leaf_weight", "leaf_count")
_PER_NODE = (
    "split_feature",
    "split_gain",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "internal_value",
    "internal_weight",
    "internal_count",
)
_OF_TREE = {
    *_PER_LEAF,
    *_PER_NODE,
    "num_leaves",
    "num_cat",
    "cat_boundaries",
    "cat_threshold",
    "is_linear",
    "shrinkage",
}
_TREES_END = b"end of trees\n"
_THREADS_LINE = re.compile(r"^\[num_threads: \d+\]$", re.MULTILINE)
_NUMBERS = re.compile(r"[-+.0-9eE ]*")
_CATEGORICAL = 1  # Lowest bit of a decision type: the threshold is a place in cat_boundaries.


def check_booster_text(text: str, columns: Sequence[str], objective: str = CLASSIFIER) -> None:
    """Verify that the text is a LightGBM model with one output on these columns, whole and consistent.

    Args:
        text: LightGBM's text form, as `Booster.model_to_string` writes it.
        columns: Column names of the design matrix, in order.
        objective: What it was trained for, as its header says it: `CLASSIFIER` or `REGRESSION`.

    Raises:
        BundleError: it is not; the message says what is wrong.
    """
    try:
        content = text.encode("ascii")
        header_end = content.find(b"\n\n") + 2
        _require(header_end >= 2, "its header has no end")
        header = _check_header(content[:header_end].decode(), columns, objective)
        sizes = [int(size) for size in header["tree_sizes"].split()]
        start = header_end
        for number, size in enumerate(sizes):
            _check_tree(content[start : start + size].decode(), number, len(columns))
            start += size
        _require(bool(sizes) and content[start:].startswith(_TREES_END), "its trees do not end where it says")
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise BundleError(
            f"Expected a LightGBM model ({objective}) in text form on {len(columns)} columns, but {error}. "
            "Train the model again, or fetch it from the registry again."
        ) from error


def without_threads(text: str) -> str:
    """The text with one thread in its settings: the one setting that the model itself does not depend on."""
    return _THREADS_LINE.sub("[num_threads: 1]", text)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _key_values(lines: Sequence[str], known: set[str]) -> dict[str, str]:
    pairs = [line.partition("=") for line in lines]
    _require(all(mark and key in known for key, mark, _ in pairs), "it has lines that do not belong there")
    _require(len({key for key, _, _ in pairs}) == len(pairs), "it says something twice")
    return {key: value for key, _, value in pairs}


def _check_header(text: str, columns: Sequence[str], objective: str) -> dict[str, str]:
    lines = text.splitlines()
    _require(lines[0] == "tree", "its first line is not `tree`")
    header = _key_values(lines[1:-1], _OF_HEADER)
    for key, expected in {**_HEADER, "objective": objective}.items():
        _require(header[key] == expected, f"its {key} is {header[key]!r} and not {expected!r}")
    found = header["feature_names"].split()
    _require(found == list(columns), f"it was trained on the columns {' '.join(found)[:400]}")
    _require(header["max_feature_idx"] == str(len(columns) - 1), "it contradicts itself about its columns")
    _require(len(header["feature_infos"].split()) == len(columns), "it describes another number of columns")
    return header


def _check_tree(text: str, number: int, columns: int) -> None:
    lines = text.rstrip("\n").split("\n")
    _require(text.endswith("\n\n") and lines[0] == f"Tree={number}", f"tree {number} is not where it should be")
    tree = _key_values(lines[1:], _OF_TREE)
    leaves, categories = int(tree["num_leaves"]), int(tree["num_cat"])
    _require(leaves >= 1 and categories >= 0 and tree["is_linear"] == "0", f"tree {number} has no shape")
    _require(all(_NUMBERS.fullmatch(value) for value in tree.values()), f"tree {number} holds more than numbers")
    values = _floats(tree["leaf_value"])
    _require(values.size == leaves and bool(np.isfinite(values).all()), f"tree {number} has no value in a leaf")
    float(tree["shrinkage"])
    if leaves > 1:
        for key in _PER_LEAF:
            _require(_floats(tree[key]).size == leaves, f"tree {number} misses a {key}")
        _check_nodes(tree, number, leaves, categories, columns)


def _floats(values: str) -> np.ndarray:
    return np.array(values.split(), dtype=np.float64)


def _check_nodes(tree: Mapping[str, str], number: int, leaves: int, categories: int, columns: int) -> None:
    nodes = leaves - 1
    for key in _PER_NODE:
        _require(_floats(tree[key]).size == nodes, f"tree {number} misses a {key}")
    features, decisions, left, right = (
        np.array(tree[key].split(), dtype=np.int32)
        for key in ("split_feature", "decision_type", "left_child", "right_child")
    )
    thresholds = _floats(tree["threshold"])
    _require(bool(((features >= 0) & (features < columns)).all()), f"tree {number} splits on an unknown column")
    children = np.concatenate([left, right])
    parents = np.concatenate([np.arange(nodes), np.arange(nodes)])
    # A split is numbered after the one it hangs below, and every split and leaf hangs somewhere once: no circles.
    below = np.where(children >= 0, (children > parents) & (children < nodes), ~children < leaves)
    once = np.unique(children).size == children.size
    _require(bool(below.all()) and once, f"tree {number} is not a tree")
    _require(bool(((decisions >= 0) & (decisions < 16)).all()), f"tree {number} decides in an unknown way")
    _require(bool(np.isfinite(thresholds).all()), f"tree {number} has a threshold that is no number")
    _check_categories(tree, number, thresholds[(decisions & _CATEGORICAL) == _CATEGORICAL], categories)


def _check_categories(tree: Mapping[str, str], number: int, places: np.ndarray, categories: int) -> None:
    """Category sets are bit masks: `cat_boundaries` cuts the words of `cat_threshold` into `num_cat` sets."""
    if not categories:
        _require(not places.size, f"tree {number} decides on categories it does not have")
        return
    boundaries = np.array(tree["cat_boundaries"].split(), dtype=np.int32)
    words = np.array(tree["cat_threshold"].split(), dtype=np.uint32)
    sound = (
        boundaries.size == categories + 1
        and boundaries[0] == 0
        and boundaries[-1] == words.size
        and bool((np.diff(boundaries) > 0).all())
        and bool(((places >= 0) & (places < categories) & (places == np.floor(places))).all())
    )
    _require(sound, f"tree {number} has broken category sets")
