"""Reads XGBoost's JSON form of a model, after checking it. Training is in `levibot_core.models.xgboost_model`.

XGBoost follows the indices in a model file without looking; a server must not die of a file, nor read foreign memory.
So all that XGBoost would follow (columns, children, sizes) is verified first, and what cannot be verified is refused.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from levibot_core.errors import BundleError
from levibot_core.models.predictors import expect_finite

if TYPE_CHECKING:
    import xgboost

_ROOT_PARENT = 2**31 - 1
_INTEGERS = ("left_children", "right_children", "parents", "split_indices", "split_type", "default_left")
_NUMBERS = ("base_weights", "loss_changes", "split_conditions", "sum_hessian")
_CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")


class XGBoostPredictor:
    """An XGBoost booster read from its JSON form. Forecasts are 32-bit inside, given out as float64."""

    def __init__(self, booster: "xgboost.Booster") -> None:
        self._booster = booster

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """See `Predictor.predict`."""
        expect_finite(matrix)
        return np.asarray(self._booster.inplace_predict(matrix, validate_features=False), dtype=np.float64)

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """See `Predictor.contributions`: exact, by XGBoost's own TreeSHAP (Lundberg et al. 2018, algorithm 2)."""
        import xgboost

        expect_finite(matrix)
        rows = xgboost.DMatrix(matrix, nthread=1)
        values = self._booster.predict(rows, pred_contribs=True, validate_features=False)
        return np.asarray(values, dtype=np.float64)[:, :-1]


def read_xgboost(files: Mapping[str, bytes], columns: Sequence[str]) -> XGBoostPredictor:
    """Read `xgboost.json`, which is verified first.

    Raises:
        BundleError: it is incomplete, inconsistent, or of a model on other columns; or XGBoost is not installed.
    """
    content = files["xgboost.json"]
    check_xgboost_json(content, columns)
    try:
        import xgboost  # Lazy: it brings SciPy, which the other families do without.
    except ImportError as error:
        raise BundleError(f"Expected XGBoost, to read a model of its family, but {error}. Install it.") from error
    try:
        booster = xgboost.Booster({"nthread": 1, "verbosity": 0}, model_file=bytearray(content))
    except xgboost.core.XGBoostError as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"Expected an XGBoost model in JSON form, but XGBoost says: {reason}.") from error
    return XGBoostPredictor(booster)


def check_xgboost_json(content: bytes, columns: Sequence[str]) -> None:
    """Verify that the bytes are a binary XGBoost classifier of plain trees on these columns, whole and consistent.

    Args:
        content: XGBoost's JSON form, as `Booster.save_raw("json")` writes it.
        columns: Column names of the design matrix, in order.

    Raises:
        BundleError: they are not; the message says what is wrong.
    """
    try:
        model = json.loads(content.decode(), object_pairs_hook=_said_once, parse_constant=_no_number)
        _check_learner(model["learner"], columns)
        for number, tree in enumerate(model["learner"]["gradient_booster"]["model"]["trees"]):
            _check_tree(tree, number, len(columns))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BundleError(
            f"Expected an XGBoost classifier in JSON form on {len(columns)} columns, but {_in_words(error)}. "
            "Train the model again, or fetch it from the registry again."
        ) from error


def _in_words(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _require(len({key for key, _ in pairs}) == len(pairs), "it says something twice")
    return dict(pairs)


def _no_number(name: str) -> float:
    raise ValueError(f"it holds {name}")


def _check_learner(learner: Mapping[str, Any], columns: Sequence[str]) -> None:
    parameters, booster = learner["learner_model_param"], learner["gradient_booster"]
    named = learner["feature_names"]
    _require(named == list(columns), f"it was trained on the columns {' '.join(map(str, named))[:400]}")
    _require(learner["feature_types"] == [], "it has categorical columns")
    _require(learner["attributes"] == {}, "it has attributes")
    _require(int(parameters["num_feature"]) == len(columns), "it contradicts itself about its columns")
    _require((parameters["num_class"], parameters["num_target"]) == ("0", "1"), "it forecasts more than one number")
    _require(0.0 < float(parameters["base_score"].strip("[]")) < 1.0, "its base score is no probability")
    _require(learner["objective"]["name"] == "binary:logistic", "it has another objective")
    _require(booster["name"] == "gbtree", "it is not made of plain trees")
    model = booster["model"]
    trees, sizes = len(model["trees"]), model["gbtree_model_param"]
    _require(trees > 0 and int(sizes["num_trees"]) == trees, "it does not have the trees it counts")
    _require(int(sizes["num_parallel_tree"]) == 1, "it grows several trees a round")
    _require(model["tree_info"] == [0] * trees, "its trees are of other classes")
    _require(model["iteration_indptr"] == list(range(trees + 1)), "its rounds are not one tree each")
    _require(not any(model.get("cats", {}).values()), "it has categories")


def _check_tree(tree: Mapping[str, Any], number: int, columns: int) -> None:
    sizes = tree["tree_param"]
    nodes = int(sizes["num_nodes"])
    _require(tree["id"] == number and nodes >= 1, f"tree {number} is not where it should be")
    _require(int(sizes["num_feature"]) == columns, f"tree {number} has another number of columns")
    _require((sizes["num_deleted"], sizes["size_leaf_vector"]) == ("0", "1"), f"tree {number} has an unknown form")
    _require(not any(tree[name] for name in _CATEGORIES), f"tree {number} decides on categories")
    whole = {name: _array(tree[name], "i", nodes, f"tree {number}: {name}") for name in _INTEGERS}
    numbers = {name: _array(tree[name], "if", nodes, f"tree {number}: {name}") for name in _NUMBERS}
    _require(all(bool(np.isfinite(values).all()) for values in numbers.values()), f"tree {number} is not finite")
    left, right, parents = whole["left_children"], whole["right_children"], whole["parents"]
    inner = np.flatnonzero(left != -1)
    _require(bool(((left == -1) == (right == -1)).all()), f"tree {number} has half a split")
    children = np.concatenate([left[inner], right[inner]])
    above = np.concatenate([inner, inner])
    # Every node but the root hangs once below one that comes before it: no circles, and nothing outside the tree.
    once = bool(np.array_equal(np.sort(children), np.arange(1, nodes)))
    _require(once and bool((children > above).all()), f"tree {number} is not a tree")
    known_parents = parents[0] == _ROOT_PARENT and bool((parents[children] == above).all())
    _require(known_parents, f"tree {number} contradicts itself about parents")
    splits = whole["split_indices"][inner]
    _require(bool(((splits >= 0) & (splits < columns)).all()), f"tree {number} splits on an unknown column")
    _require(not whole["split_type"].any(), f"tree {number} splits in an unknown way")
    _require(bool(np.isin(whole["default_left"], (0, 1)).all()), f"tree {number} has no way for a missing value")


def _array(values: Any, kinds: str, size: int, name: str) -> np.ndarray:
    array = np.array(values)
    _require(array.shape == (size,) and array.dtype.kind in kinds, f"{name} does not hold {size} numbers")
    return array
