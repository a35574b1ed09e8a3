"""From training rows to the arrays a model is fitted on. Serving builds the same columns in `.predictors`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from levibot_core.errors import DataQualityError
from levibot_core.models.predictors import assemble_matrix


@dataclass(frozen=True, slots=True)
class LabelledMatrix:
    """Rows a model is fitted on.

    Attributes:
        matrix: The design matrix, float64 (n, f + 1).
        labels: 1 for a rise, else 0, float64 (n,).
        weights: How much each row counts, float64 (n,), such as the uniqueness of overlapping labels; all count the
            same when None. Only training looks at them: rows that stop, rank and score a model count the same.

    Raises:
        DataQualityError: the weights are not one finite number of at least 0 per row, or all 0.
    """

    matrix: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        fits = self.weights.shape == self.labels.shape and bool(np.isfinite(self.weights).all())
        if not (fits and bool((self.weights >= 0.0).all()) and float(self.weights.sum()) > 0.0):
            raise DataQualityError(
                f"Expected a finite weight of at least 0 for each of {self.labels.size} rows, and not all 0, was "
                f"something else ({self.weights.size} weights). Compute the weights of these rows again."
            )


def design_matrix(rows: pl.DataFrame, features: Sequence[str], symbols: Sequence[str]) -> np.ndarray:
    """The design matrix, float64 (n, len(features) + 1): the features in order, then the symbol code.

    Args:
        rows: Rows with a `symbol` column (inside spelling) and a float column per feature.
        features: Feature columns, in the order the model wants.
        symbols: Symbols the model knows; a symbol's code is its place here.

    Raises:
        UnknownSymbolError: a row's symbol is not among `symbols`.
        MissingFeatureError: a feature column is absent, or has a null, NaN or infinite value.
    """
    columns = {name: rows[name].cast(pl.Float64).to_numpy() for name in features if name in rows.columns}
    return assemble_matrix(rows["symbol"].to_list(), columns, features, symbols)


def label_vector(rows: pl.DataFrame, part: str) -> np.ndarray:
    """The labels of one part of a split, float64 (n,), 1 for a rise, else 0.

    Args:
        rows: Rows with a `label` column.
        part: Name of the part, for the message.

    Raises:
        DataQualityError: the part has no rows, or rows of one class only: nothing can be learnt or measured on it.
    """
    labels = rows["label"].cast(pl.Float64).to_numpy()
    rises = int(labels.sum())
    if not 0 < rises < labels.size:
        raise DataQualityError(
            f"Expected rows of both classes in the {part} part, was {labels.size} rows with {rises} rises. "
            "Train on a longer history or on more symbols."
        )
    return labels


def constant_features(matrix: np.ndarray, features: Sequence[str]) -> tuple[str, ...]:
    """Names of the features that have one value in every row of a design matrix, float64 (n, f + 1)."""
    constant = np.ptp(matrix[:, : len(features)], axis=0) == 0.0
    return tuple(name for name, same in zip(features, constant, strict=True) if same)


def expect_something_to_learn(matrix: np.ndarray, features: Sequence[str], fewest_rows: int) -> None:
    """Refuse rows to train on that no model could learn anything from.

    A single feature that is constant over the train part is no reason: trees leave it alone.

    Raises:
        DataQualityError: there are fewer rows than `fewest_rows`, or every feature is constant.
    """
    if matrix.shape[0] < fewest_rows:
        raise DataQualityError(
            f"Expected at least {fewest_rows} rows to train on, was {matrix.shape[0]}. Take more days or more symbols."
        )
    if len(constant := constant_features(matrix, features)) == len(features):
        raise DataQualityError(
            f"Expected features that vary over the {matrix.shape[0]} train rows, but all {len(constant)} are constant "
            f"({', '.join(constant[:5])}, ...). Look at the candles and at how the features were computed."
        )
