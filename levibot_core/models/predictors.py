"""What an uncalibrated predictor is, its design matrix, and the two simplest: the base rate and LightGBM.

Nothing here is ever executed or unpickled. Which kinds of model there are is told in `.families`; training is in
`.lightgbm_model`, calibration in `.calibration`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from levibot_core.errors import BundleError, MissingFeatureError, UnknownSymbolError
from levibot_core.models.booster_text import CLASSIFIER, check_booster_text
from levibot_core.models.native_booster import NativeBooster
from levibot_core.stores.online_vector import PackedValues

BASE_RATE: Final = "base_rate"
LIGHTGBM: Final = "lightgbm"
XGBOOST: Final = "xgboost"
TFT: Final = "tft"
ENSEMBLE: Final = "ensemble"
SYMBOL_CODE: Final = "symbol_code"


class Predictor(Protocol):
    """Maps a design matrix to uncalibrated probabilities. Safe to share between threads.

    One of a window of several bars takes float64 (n, window, f + 1) in place of (n, f + 1), oldest bar first.
    """

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Probability of a rise per row: float64 (n, f + 1) in, float64 (n,) out."""
        ...

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """SHAP values in log-odds, float64 (n, f + 1): what each value of a row adds to the mean forecast.

        Raises:
            ExplanationError: models of this family have none.
        """
        ...


@dataclass(frozen=True, slots=True)
class BaseRatePredictor:
    """Answers every row with the same probability; only the number of rows of the matrix matters."""

    probability: float

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """See `Predictor.predict`."""
        return np.full(matrix.shape[0], self.probability)

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """See `Predictor.contributions`: no value changes the forecast."""
        return np.zeros(matrix.shape)


class LightGBMPredictor:
    """A LightGBM booster read from its text form."""

    def __init__(self, booster: NativeBooster) -> None:
        self._booster = booster

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """See `Predictor.predict`. On one thread."""
        expect_finite(matrix)
        return self._booster.predict(matrix)

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """See `Predictor.contributions`: exact, by LightGBM's own TreeSHAP (Lundberg et al. 2018, algorithm 2)."""
        expect_finite(matrix)
        return self._booster.contributions(matrix)[:, :-1]


def expect_finite(matrix: np.ndarray) -> None:
    """Refuse a design matrix with a hole in it.

    Raises:
        MissingFeatureError: a value is NaN or infinite.
    """
    if not np.isfinite(matrix).all():
        raise MissingFeatureError(
            "Expected a finite number for every feature of every row, was NaN or infinite somewhere. "
            "Leave such rows out; a missing feature is never answered with a guess."
        )


def read_base_rate(files: Mapping[str, bytes], columns: Sequence[str]) -> BaseRatePredictor:
    """Read `base_rate.json`; the columns of the matrix do not matter to it.

    Raises:
        BundleError: the file does not hold a probability strictly between 0 and 1.
    """
    del columns  # Part of the signature every family shares.
    content = files["base_rate.json"]
    try:
        probability = json.loads(content)["probability"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"Expected base_rate.json to hold a probability, was {content[:80]!r}.") from error
    if not isinstance(probability, float) or not 0.0 < probability < 1.0:
        raise BundleError(f"Expected a base rate strictly between 0 and 1, was {probability!r}. Train it again.")
    return BaseRatePredictor(probability)


def base_rate_text(probability: float) -> str:
    """The content of `base_rate.json`; `read_base_rate` gives back the same number, bit for bit."""
    return json.dumps({"probability": float(probability)}) + "\n"


def read_lightgbm(files: Mapping[str, bytes], columns: Sequence[str]) -> LightGBMPredictor:
    """Read `booster.txt`. Raises as `read_booster`."""
    return read_booster(text_of(files, "booster.txt"), columns)


def text_of(files: Mapping[str, bytes], name: str) -> str:
    """The content of one of the files as text.

    Raises:
        BundleError: it is not UTF-8.
    """
    try:
        return files[name].decode()
    except UnicodeDecodeError as error:
        raise BundleError(
            f"Expected {name} to be UTF-8 text, but {error}. Fetch the model from the registry again."
        ) from error


def read_booster(text: str, columns: Sequence[str], objective: str = CLASSIFIER) -> LightGBMPredictor:
    """Read a LightGBM booster from its text form, which is verified first: LightGBM itself trusts it blindly.

    Raises:
        BundleError: the text is incomplete, inconsistent, of another objective, or of a model on other columns.
    """
    check_booster_text(text, columns, objective)
    return LightGBMPredictor(NativeBooster(text))


def matrix_columns(features: Sequence[str]) -> tuple[str, ...]:
    """Column names of a design matrix: the features in order, then the categorical symbol code."""
    return (*features, SYMBOL_CODE)


def assemble_matrix(
    row_symbols: Sequence[str], columns: Mapping[str, np.ndarray], features: Sequence[str], symbols: Sequence[str]
) -> np.ndarray:
    """Build a design matrix.

    Args:
        row_symbols: Symbol of each row, inside spelling, length n.
        columns: Feature name to values, each (n,); more columns than needed are welcome.
        features: The features the model wants, in order.
        symbols: The symbols the model knows; a symbol's code is its place here.

    Returns:
        float64 (n, len(features) + 1), row-major.

    Raises:
        UnknownSymbolError: a row's symbol is not among `symbols`.
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
    """
    codes = {symbol: float(code) for code, symbol in enumerate(symbols)}
    matrix = np.empty((len(row_symbols), len(features) + 1))
    try:
        matrix[:, -1] = [codes[symbol] for symbol in row_symbols]
    except KeyError as error:
        raise UnknownSymbolError(f"Expected a symbol of {', '.join(symbols)}, was {error.args[0]!r}.") from None
    absent = [name for name in features if name not in columns]
    for place, name in enumerate(features):
        if name in columns:
            matrix[:, place] = columns[name]
    if not absent and np.isfinite(matrix).all():
        return matrix
    absent += [name for name in features if name in columns and not np.isfinite(columns[name]).all()]
    raise MissingFeatureError(_missing(absent, features))


def assemble_row(
    symbol: str, values: Mapping[str, float], features: Sequence[str], symbols: Sequence[str]
) -> np.ndarray:
    """Build the design matrix of one row, float64 (1, len(features) + 1). Raises as `assemble_matrix`."""
    if symbol not in symbols:
        raise UnknownSymbolError(f"Expected a symbol of {', '.join(symbols)}, was {symbol!r}.")
    row = _values_of(values, features)
    if not all(map(math.isfinite, row)):
        missing = [name for name, value in zip(features, row, strict=True) if not math.isfinite(value)]
        raise MissingFeatureError(_missing(missing, features))
    return np.array([[*row, symbols.index(symbol)]], dtype=np.float64)


def _values_of(values: Mapping[str, float], features: Sequence[str]) -> Sequence[float]:
    """The values in the order of the features, NaN for one that is absent."""
    if isinstance(values, PackedValues):
        try:
            return values.pick(tuple(features))
        except KeyError:
            pass
    return [values.get(name, math.nan) for name in features]


def _missing(missing: Sequence[str], features: Sequence[str]) -> str:
    return (
        f"Expected a finite number for each of {len(features)} features, was without {', '.join(missing)}. "
        "A missing feature is never replaced by a zero: compute the features of this bar again, or wait for the next."
    )
