"""The family `ensemble`: one model whose members are whole calibrated bundles, kept flat beside the recipe.

    ensemble.json              who the members are, and how their probabilities become one (see `.ensemble`)
    member.<name>.<file>       every file of a member, its own manifest included

A member is read as any bundle is, so each of its bytes is checked twice. It is given its own columns, chosen by name,
and the newest `window` bars it asks for. What an ensemble is worth is found in `.ensemble_candidate`; serving imports
this module, so nothing here needs more than the members do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from levibot_core.errors import BundleError, MissingFeatureError
from levibot_core.models.calibration import Calibrator, IdentityCalibrator, PlattCalibrator, logit, sigmoid
from levibot_core.models.ensemble import EnsembleRecipe, ensemble_from_json
from levibot_core.models.predictors import ENSEMBLE, matrix_columns, text_of

if TYPE_CHECKING:
    from levibot_core.models.bundle import BundleIdentity, ModelBundle

ENSEMBLE_FILE: Final = "ensemble.json"
MEMBER_PREFIX: Final = "member."
_SHARED: Final = ("model_name", "timeframe", "horizon_bars", "symbols", "feature_set", "snapshot_id", "source_kind")
# A curve that is no line in log-odds is measured this far to both sides of the base value, and taken to rise at least
# this much: where it is flat, its bend still has to be shared out among the columns.
_REACH, _LEAST_SLOPE = 0.2, 0.05
_REMEDY = "Fetch the model from the registry again, or train it again."


@dataclass(frozen=True, slots=True)
class MemberForecast:
    """What one member of an ensemble says of a row, calibrated, and its weight in the recipe."""

    name: str
    probability: float
    weight: float


class EnsemblePredictor:
    """Asks every member and combines the answers."""

    def __init__(self, recipe: EnsembleRecipe, members: Sequence["ModelBundle"], columns: Sequence[str]) -> None:
        self.recipe = recipe
        self.members = tuple(members)
        self._places = tuple(_places(member, columns) for member in self.members)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """See `Predictor.predict`. The members are calibrated, so this is a probability that holds."""
        return self.recipe.apply(self.member_probabilities(matrix))

    def member_probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Calibrated probability of each member, float64 (members, n), in the order of the recipe."""
        inputs = self._inputs(matrix)
        return np.array([member.predict(own) for member, own in zip(self.members, inputs, strict=True)])

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """SHAP values in log-odds, float64 (n, f + 1): the members' own, by weight, in the columns of the ensemble.

        A member's values add up to its score before calibration. A stacked ensemble of members with a calibration
        that is a line in log-odds (Platt, or none) is linear in them: its values are the sum of weight * slope *
        value, and exact. Where a calibration bends (isotonic, Venn-Abers), or probabilities are averaged (a vote), the
        slope at the base value is taken, and the rest, which no single column explains, is shared out in proportion
        to the absolute values. Either way a row's values add up to its log-odds less those of the base value.

        Raises:
            MissingFeatureError: as `predict`.
            ExplanationError: a member has no SHAP values.
        """
        # The last row, of zeros, tells where every member starts from.
        rows = np.concatenate([matrix, np.zeros((1, *matrix.shape[1:]))])
        found = np.zeros((len(matrix), matrix.shape[-1]))
        starts = []
        values = []
        for member, own in zip(self.members, self._inputs(rows), strict=True):
            shap = member.contributions(own)
            starts.append(float(logit(member.predict_raw(own[-1:]))[0] - shap[-1].sum()))
            values.append(shap[:-1])
        scores = sigmoid(np.array(starts)[:, np.newaxis])
        at_start = np.array([member.calibrate(score)[0] for member, score in zip(self.members, scores, strict=True)])
        base = float(self.recipe.apply(at_start[:, np.newaxis])[0])
        for place, member in enumerate(self.members):
            rise = self.recipe.weights[place] * _slope(member.calibrator, starts[place])
            if self.recipe.method == "sharpe_vote":
                rise *= at_start[place] * (1.0 - at_start[place]) / (base * (1.0 - base))
            found[:, self._places[place]] += rise * values[place]
        wanted = logit(self.predict(matrix)) - logit(np.array([base]))
        sizes = np.abs(found)
        totals = sizes.sum(axis=1)
        rest = np.divide(wanted - found.sum(axis=1), totals, out=np.zeros(len(found)), where=totals > 0.0)
        return np.asarray(found + rest[:, np.newaxis] * sizes)

    def _inputs(self, matrix: np.ndarray) -> list[np.ndarray]:
        return [
            member_input(matrix, places, member.manifest.window)
            for member, places in zip(self.members, self._places, strict=True)
        ]


def member_input(matrix: np.ndarray, places: np.ndarray, window: int) -> np.ndarray:
    """What a member sees of the ensemble's input: its own columns of its own number of newest bars.

    Args:
        matrix: float64 (n, f + 1), or (n, bars, f + 1), oldest bar first.
        places: The member's columns among those of the matrix, int64 (k,).
        window: Bars that the member needs.

    Returns:
        float64 (n, k) where the window is 1, else (n, window, k).

    Raises:
        MissingFeatureError: the matrix has fewer bars.
    """
    bars = 1 if matrix.ndim == 2 else matrix.shape[1]
    if bars < window:
        raise MissingFeatureError(
            f"Expected {window} successive bars for a member of the ensemble, was {bars}. A window is whole, or there "
            "is no forecast."
        )
    if matrix.ndim == 3:
        matrix = matrix[:, -1] if window == 1 else matrix[:, -window:]
    return np.ascontiguousarray(matrix[..., places])


def read_ensemble(files: Mapping[str, bytes], columns: Sequence[str]) -> EnsemblePredictor:
    """Read `ensemble.json` and the members' files.

    Raises:
        BundleError: a member is not whole, not in the recipe, an ensemble itself, or of another market than the others.
    """
    from levibot_core.models.bundle import ModelBundle  # A bundle reads families, and this family reads bundles.

    recipe = ensemble_from_json(text_of(files, ENSEMBLE_FILE))
    parts: dict[str, dict[str, bytes]] = {}
    for name, content in files.items():
        if name.startswith(MEMBER_PREFIX):
            owner, _, file = name.removeprefix(MEMBER_PREFIX).partition(".")
            parts.setdefault(owner, {})[file] = content
    if set(parts) != set(recipe.members):
        raise BundleError(
            f"Expected the files of the members {', '.join(recipe.members)}, was those of "
            f"{', '.join(sorted(parts)) or 'none'}. {_REMEDY}"
        )
    members = [ModelBundle.from_files(parts[name]) for name in recipe.members]
    _expect_alike(members)
    for member in members:
        if missing := set(matrix_columns(member.manifest.features)) - set(columns):
            raise BundleError(f"Expected the columns of every member, was without {sorted(missing)}. {_REMEDY}")
    return EnsemblePredictor(recipe, members, columns)


def ensemble_files(recipe: EnsembleRecipe, members: Mapping[str, "ModelBundle"]) -> dict[str, bytes]:
    """The files of an ensemble, as `ModelBundle.build` takes them: name to content.

    Args:
        recipe: How the members are combined.
        members: Name of every member of the recipe to its bundle. A name has no dot in it.

    Raises:
        BundleError: a member is missing, or has a name with a dot.
    """
    if strange := [name for name in recipe.members if name not in members or "." in name or not name]:
        raise BundleError(f"Expected a bundle and a name without dots for every member, was not so for {strange}.")
    files = {ENSEMBLE_FILE: recipe.to_json().encode()}
    for name in recipe.members:
        files |= {f"{MEMBER_PREFIX}{name}.{file}": content for file, content in members[name].packed.items()}
    return files


def ensemble_identity(members: Sequence["ModelBundle"]) -> "BundleIdentity":
    """What an ensemble says about itself: all that its members see, the longest window, the newest training.

    Raises:
        BundleError: the members are of different markets.
    """
    from levibot_core.models.bundle import BundleIdentity

    _expect_alike(members)
    manifests = [member.manifest for member in members]
    shared = manifests[0].model_dump(include=set(BundleIdentity.model_fields))
    seen = dict.fromkeys(name for manifest in manifests for name in manifest.features)
    return BundleIdentity(
        **{
            **shared,
            "features": tuple(seen),
            "window": max(manifest.window for manifest in manifests),
            "created_at": max(manifest.created_at for manifest in manifests),
        }
    )


def members_of(bundle: "ModelBundle") -> dict[str, "ModelBundle"]:
    """Name of each member to its bundle, in the order of the recipe; empty for a model that is no ensemble."""
    predictor = bundle.predictor
    if not isinstance(predictor, EnsemblePredictor):
        return {}
    return dict(zip(predictor.recipe.members, predictor.members, strict=True))


def score_with_members(bundle: "ModelBundle", row: np.ndarray) -> tuple[np.ndarray, tuple[MemberForecast, ...]]:
    """The uncalibrated score of one row, float64 (1,), and what each member says of it, none for a single model.

    Args:
        bundle: The model.
        row: Its input, as `ModelBundle.predict` takes it, of one row.

    Raises:
        MissingFeatureError: a value is NaN or infinite.
    """
    predictor = bundle.predictor
    if not isinstance(predictor, EnsemblePredictor):
        return bundle.predict_raw(row), ()
    recipe, probabilities = predictor.recipe, predictor.member_probabilities(row)
    said = zip(recipe.members, probabilities[:, 0].tolist(), recipe.weights, strict=True)
    return recipe.apply(probabilities), tuple(MemberForecast(*item) for item in said)


def _places(member: "ModelBundle", columns: Sequence[str]) -> np.ndarray:
    order = list(columns)
    return np.array([order.index(name) for name in matrix_columns(member.manifest.features)], dtype=np.int64)


def _slope(calibrator: Calibrator, start: float) -> float:
    """How much the calibrated log-odds rise with those of the score, near the base value."""
    match calibrator:
        case IdentityCalibrator():
            return 1.0
        case PlattCalibrator(slope=slope):
            return slope
    ends = logit(calibrator.apply(sigmoid(np.array([start - _REACH, start + _REACH]))))
    return max(float(ends[1] - ends[0]) / (2.0 * _REACH), _LEAST_SLOPE)


def _expect_alike(members: Sequence["ModelBundle"]) -> None:
    if nested := [member for member in members if member.manifest.family == ENSEMBLE]:
        raise BundleError(f"Expected members that are single models, was {len(nested)} ensembles among them.")
    for name in _SHARED:
        found = {str(getattr(member.manifest, name)) for member in members}
        if len(found) != 1:
            raise BundleError(f"Expected members of one {name}, was {', '.join(sorted(found)) or 'none'}. {_REMEDY}")
