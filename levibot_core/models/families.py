"""The kinds of model a bundle can hold. A new kind adds one entry here.

A family is a name, the files its predictor is kept in and the function that reads them. Reading executes and unpickles
nothing. How a boosted family is trained is in `levibot_core.models.boosters`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from levibot_core.models.ensemble_bundle import ENSEMBLE_FILE, MEMBER_PREFIX, read_ensemble
from levibot_core.models.predictors import (
    BASE_RATE,
    ENSEMBLE,
    LIGHTGBM,
    TFT,
    XGBOOST,
    Predictor,
    read_base_rate,
    read_lightgbm,
)
from levibot_core.models.tft.predictor import CONFIGURATION_FILE, ONNX_FILE, WEIGHTS_FILE
from levibot_core.models.tft.window_predictor import read_window_predictor
from levibot_core.models.xgboost_json import read_xgboost


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of model.

    Attributes:
        files: Names of the files it cannot do without.
        read: Makes a predictor of the files (name to bytes; the needed ones are there) and the column names of the
            design matrix. Raises `BundleError` where they do not make one.
        libraries: Distributions that reading and predicting need, beside NumPy and pydantic.
        optional: Names of further files it may have.
        prefix: Further files have names that begin so, such as those of the members of an ensemble; none when empty.
    """

    files: tuple[str, ...]
    read: Callable[[Mapping[str, bytes], Sequence[str]], Predictor]
    libraries: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    prefix: str = ""

    def owns(self, name: str) -> bool:
        """Whether a file of that name belongs to the predictor."""
        return name in self.files or name in self.optional or (self.prefix != "" and name.startswith(self.prefix))


_SINGLE: Mapping[str, Family] = {
    BASE_RATE: Family(("base_rate.json",), read_base_rate),
    LIGHTGBM: Family(("booster.txt",), read_lightgbm, ("lightgbm",)),
    XGBOOST: Family(("xgboost.json",), read_xgboost, ("xgboost-cpu",)),
    TFT: Family((ONNX_FILE, CONFIGURATION_FILE, WEIGHTS_FILE), read_window_predictor, ("onnxruntime",)),
}

FAMILIES: Mapping[str, Family] = {
    **_SINGLE,
    ENSEMBLE: Family(
        (ENSEMBLE_FILE,),
        read_ensemble,
        # Whatever its members may need.
        tuple(dict.fromkeys(library for family in _SINGLE.values() for library in family.libraries)),
        prefix=MEMBER_PREFIX,
    ),
}
