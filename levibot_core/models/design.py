"""From training rows to the arrays a model is fitted on. Serving builds the same columns in `.predictors`."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from levibot_core.errors import DataQualityError
from levibot_core.models.predictors import assemble_matrix


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
