"""A trained LightGBM model on LightGBM's C library alone: for prediction, without LightGBM's Python package.

The package imports scikit-learn and pandas where they are installed, which takes a server seconds to start and a third
of its memory; and its `Booster.predict` spends most of the time of a single row around the trees. The C interface
(LightGBM's `c_api.h`) has a call for one row whose settings were parsed before, and walks the same trees in the same
order, so the bits are the same. Text is checked before it gets here (`.booster_text`); training is in
`.lightgbm_model`.
"""

import ctypes
import weakref
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from levibot_core.errors import BundleError

# Values of c_api.h.
_NORMAL: Final = 0
_CONTRIBUTIONS: Final = 3
_FLOAT64: Final = 1
_ROW_MAJOR: Final = 1
_FIRST: Final = 0
_ALL: Final = -1
_SETTINGS: Final = b"num_threads=1"
"""For the few rows of a request, more threads only wait for each other."""
_LIBRARY_NAMES: Final = ("lib_lightgbm.so", "lib_lightgbm.dylib", "lib_lightgbm.dll")


class NativeBooster:
    """A booster read from its text form. Immutable; safe to share between threads."""

    def __init__(self, text: str) -> None:
        """Read it.

        Raises:
            BundleError: LightGBM refuses the text, or its library is not installed.
        """
        self._library = _library()
        self._booster = ctypes.c_void_p()
        # Taking and putting back are one step each for the interpreter, so no lock is needed.
        self._idle: list[_SingleRow] = []
        trees = ctypes.c_int()
        self._check(
            self._library.LGBM_BoosterLoadModelFromString(
                text.encode(), ctypes.byref(trees), ctypes.byref(self._booster)
            )
        )
        weakref.finalize(self, _release, self._library, self._idle, self._booster)
        columns = ctypes.c_int()
        self._check(self._library.LGBM_BoosterGetNumFeature(self._booster, ctypes.byref(columns)))
        self.columns = columns.value

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """The prediction of every row: float64 (n, columns) in, float64 (n,) out."""
        if matrix.shape == (1, self.columns):
            return np.array([self._predict_one(matrix[0])])
        return self._predict(matrix, _NORMAL, 1)[:, 0]

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """What every value adds to the raw score, and the score it is added to: float64 (n, columns + 1).

        Exact, by LightGBM's own TreeSHAP (Lundberg et al. 2018, algorithm 2).
        """
        return self._predict(matrix, _CONTRIBUTIONS, self.columns + 1)

    def _predict(self, matrix: np.ndarray, kind: int, width: int) -> np.ndarray:
        rows = np.ascontiguousarray(matrix, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.columns:
            raise BundleError(f"Expected rows of {self.columns} columns, was {rows.shape}. Build the matrix again.")
        result, length = np.empty((len(rows), width)), ctypes.c_int64()
        self._check(
            self._library.LGBM_BoosterPredictForMat(
                self._booster,
                ctypes.c_void_p(rows.ctypes.data),
                ctypes.c_int(_FLOAT64),
                ctypes.c_int32(len(rows)),
                ctypes.c_int32(self.columns),
                ctypes.c_int(_ROW_MAJOR),
                ctypes.c_int(kind),
                ctypes.c_int(_FIRST),
                ctypes.c_int(_ALL),
                _SETTINGS,
                ctypes.byref(length),
                ctypes.c_void_p(result.ctypes.data),
            )
        )
        return result

    def _predict_one(self, row: np.ndarray) -> float:
        try:
            prepared = self._idle.pop()
        except IndexError:
            prepared = _SingleRow(self.columns)
            self._check(
                self._library.LGBM_BoosterPredictForMatSingleRowFastInit(
                    self._booster,
                    ctypes.c_int(_NORMAL),
                    ctypes.c_int(_FIRST),
                    ctypes.c_int(_ALL),
                    ctypes.c_int(_FLOAT64),
                    ctypes.c_int32(self.columns),
                    _SETTINGS,
                    ctypes.byref(prepared.handle),
                )
            )
        prepared.row[:] = row
        self._check(self._library.LGBM_BoosterPredictForMatSingleRowFast(*prepared.arguments))
        value = prepared.result.value
        self._idle.append(prepared)
        return value

    def _check(self, code: int) -> None:
        if code:
            said = self._library.LGBM_GetLastError().decode("utf-8", "replace")
            raise BundleError(f"Expected a LightGBM model in text form, but LightGBM says: {said}.")


class _SingleRow:
    """A prediction of one row that was set up: the memory that it reads and writes. For one call at a time."""

    __slots__ = ("arguments", "handle", "result", "row")

    def __init__(self, columns: int) -> None:
        self.handle = ctypes.c_void_p()
        self.row = np.empty(columns, dtype=np.float64)
        self.result = ctypes.c_double()
        self.arguments = (
            self.handle,
            ctypes.c_void_p(self.row.ctypes.data),
            ctypes.byref(ctypes.c_int64()),
            ctypes.byref(self.result),
        )


def _release(library: Any, idle: list[_SingleRow], booster: ctypes.c_void_p) -> None:
    """Free what was set up, then the trees that it refers to."""
    while idle:
        library.LGBM_FastConfigFree(idle.pop().handle)
    library.LGBM_BoosterFree(booster)


@cache
def _library() -> Any:
    """LightGBM's shared library, which lies inside its package; the package itself is not imported."""
    package = find_spec("lightgbm")
    folders = [] if package is None else [Path(folder) for folder in package.submodule_search_locations or ()]
    for file in (folder / place / name for folder in folders for place in ("lib", "bin") for name in _LIBRARY_NAMES):
        if file.is_file():
            library = ctypes.CDLL(str(file))
            library.LGBM_GetLastError.restype = ctypes.c_char_p
            return library
    raise BundleError(
        f"Expected LightGBM's library in its package, found none below {folders}. Install lightgbm again."
    )
