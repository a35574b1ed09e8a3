"""The model format: a flat folder of files with checked hashes. Nothing in it is ever executed or unpickled.

    manifest.json      what the model is, the SHA-256 of every other file, and a checksum over itself
    booster.txt        what the family keeps its predictor in, one file or several (see `.families`)
    calibrator.json    the calibration curve
    interval.json      optional parts, which only some models have: the band of the return,
    volatility.*       and the forecast of its volatility,
    novelty.json       and where the training rows lie

A bundle with one altered byte, a missing or an additional file is refused. This is all the serving layer imports
of a model: numpy, pydantic, and the family's library once a predictor is read. Training and registration are elsewhere.

The input of a forecast has a row per bar: float64 (n, f + 1) for a model that looks at one bar, and float64
(n, window, f + 1), oldest bar first, for one that looks at more. Cutting windows out of training rows is the work of
`.row_forecasts`.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from levibot_core.errors import BundleError, ExplanationError, MissingFeatureError
from levibot_core.labels.definition import LabelDefinition, SampleWeights, TripleBarrierLabel, label_definition
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.calibration import CalibrationMethod, Calibrator, calibrator_from_json
from levibot_core.models.families import FAMILIES
from levibot_core.models.predictors import Predictor, assemble_matrix, assemble_row, matrix_columns, text_of
from levibot_core.models.tft.window_predictor import WindowPredictor
from levibot_core.models.tft.windows import RowWindows

FORMAT: Final = "levibot-bundle/1"
MANIFEST = "manifest.json"
CALIBRATOR = "calibrator.json"
PARTS: Final = ("interval.json", "volatility.txt", "volatility.json", "novelty.json")
"""Files that any model may have beside its predictor and its calibrator."""
_CHECKSUM = "checksum"


class BundleIdentity(BaseModel):
    """Where a model comes from and what it wants to see."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_name: str = Field(description="Registered model, levibot-<timeframe>-h<bars>, of barriers -tb<bars>")
    timeframe: str
    horizon_bars: int = Field(ge=1)
    symbols: tuple[str, ...] = Field(min_length=1, description="Inside spelling; a symbol's code is its place here")
    feature_set: str
    features: tuple[str, ...] = Field(description="In the order of the matrix columns")
    window: int = Field(1, ge=1, description="Bars of history that a forecast needs, the newest included")
    snapshot_id: str = Field(description="Training snapshot; `none` for a model that saw no rows")
    source_kind: str = Field(description="exchange, recorded or simulated")
    created_at: AwareDatetime = Field(description="UTC")
    seed: int
    triple_barrier: TripleBarrierLabel | None = Field(
        None,
        description="The barriers of the label, looked for over `horizon_bars`; None forecasts the direction",
    )
    sample_weights: SampleWeights = Field("none", description="How much a row counted in the training")

    @property
    def label(self) -> LabelDefinition:
        """What the probability is of; see `levibot_core.labels.definition.event_in_words`."""
        return label_definition(self.horizon_bars, self.triple_barrier)


class BundleManifest(BundleIdentity):
    """Content of `manifest.json`."""

    format: Literal["levibot-bundle/1"] = FORMAT
    family: str = Field(description="A name of `FAMILIES`")
    calibration: CalibrationMethod
    files: dict[str, str] = Field(description="Name of every other file to its SHA-256, lower-case hexadecimal")

    @field_validator("family")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in FAMILIES:
            raise ValueError(f"expected one of {', '.join(FAMILIES)}, was {value!r}")
        return value


class ModelBundle:
    """A model that can predict, and the exact files it is made of. Immutable; safe to share between threads."""

    def __init__(self, manifest: BundleManifest, files: Mapping[str, bytes]) -> None:
        self.manifest = manifest
        self._files = dict(files)
        _check_files(manifest, self._files)
        family = FAMILIES[manifest.family]
        own = {name: content for name, content in self._files.items() if family.owns(name)}
        self._predictor = family.read(own, matrix_columns(manifest.features))
        self._calibrator = calibrator_from_json(text_of(self._files, CALIBRATOR))
        if self._calibrator.method != manifest.calibration:
            raise BundleError(
                f"Expected the calibration {manifest.calibration!r} of the manifest, "
                f"was {self._calibrator.method!r} in {CALIBRATOR}. Calibrate the model again."
            )

    @classmethod
    def build(
        cls,
        identity: BundleIdentity,
        family: str,
        predictor_files: Mapping[str, bytes],
        calibrator: Calibrator,
        parts: Mapping[str, bytes] | None = None,
    ) -> "ModelBundle":
        """Make a bundle from the files of a trained predictor.

        Args:
            identity: Where the model comes from.
            family: A name of `FAMILIES`.
            predictor_files: Name to content of the family's files.
            calibrator: What makes probabilities of the predictor's scores.
            parts: Name to content of some of `PARTS`.

        Raises:
            BundleError: the files are not a predictor of that family on these features, or not files it knows.
        """
        files = {**predictor_files, CALIBRATOR: calibrator.to_json().encode(), **(parts or {})}
        manifest = BundleManifest(
            **identity.model_dump(include=set(BundleIdentity.model_fields)),
            family=family,
            calibration=calibrator.method,
            files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        )
        return cls(manifest, files)

    def with_parts(self, parts: Mapping[str, bytes]) -> "ModelBundle":
        """The same model with other optional parts: name to content of some of `PARTS`. Raises as `build`."""
        family = FAMILIES[self.manifest.family]
        own = {name: content for name, content in self._files.items() if family.owns(name)}
        return self.build(self.manifest, self.manifest.family, own, self._calibrator, parts)

    @property
    def files(self) -> Mapping[str, bytes]:
        """Content of every file but the manifest, by name."""
        return dict(self._files)

    @property
    def packed(self) -> Mapping[str, bytes]:
        """Content of every file, the manifest included, by name; `from_files` gives back an equal model."""
        return {**self._files, MANIFEST: _manifest_text(self.manifest).encode()}

    @property
    def predictor(self) -> Predictor:
        """What gives the scores."""
        return self._predictor

    @property
    def calibrator(self) -> Calibrator:
        """What makes probabilities of scores."""
        return self._calibrator

    @property
    def parts(self) -> Mapping[str, bytes]:
        """Content of the optional parts this model has, by name (see `PARTS`)."""
        return {name: self._files[name] for name in PARTS if name in self._files}

    def predict_raw(self, matrix: np.ndarray) -> np.ndarray:
        """Uncalibrated scores, float64 (n,), of the inputs that `predict` takes."""
        return self._predictor.predict(matrix)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Calibrated probability of a rise after the horizon, float64 (n,).

        Of a model of triple barriers, the probability that the profit is reached first.

        Args:
            matrix: A design matrix, float64 (n, f + 1), where the window is 1, else float64 (n, window, f + 1), oldest
                bar first. Columns are the manifest's features in order, then the symbol code.

        Raises:
            MissingFeatureError: a value of the matrix is NaN or infinite (the base rate does not look at it).
        """
        return self._calibrator.apply(self._predictor.predict(matrix))

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """SHAP values of the uncalibrated score in log-odds, float64 (n, f + 1), of a matrix of that shape.

        A row's values add up to its score less the mean score of the training rows.

        Raises:
            MissingFeatureError: as `predict`.
            ExplanationError: models of this family have no SHAP values.
        """
        return self._predictor.contributions(matrix)

    def selection_weights(self, matrix: np.ndarray) -> np.ndarray:
        """How much weight a transformer's variable selection gave each feature, float64 (n, f), adding up to 1.

        Raises:
            MissingFeatureError: as `predict`.
            ExplanationError: models of this family select nothing.
        """
        if not isinstance(self._predictor, WindowPredictor):
            raise ExplanationError(
                f"Expected a transformer, whose network weighs its features, was {self.manifest.family}. "
                "Ask for SHAP values instead."
            )
        return self._predictor.selection_weights(matrix)

    def calibrate(self, raw: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64 (n,), of scores that `predict_raw` gave."""
        return self._calibrator.apply(raw)

    def matrix_row(self, symbol: str, values: Mapping[str, float]) -> np.ndarray:
        """The design matrix of one row, float64 (1, f + 1). More values than the model needs are welcome.

        Raises:
            UnknownSymbolError: the model does not know the symbol (inside spelling, BTC/USDT).
            MissingFeatureError: a feature is absent, NaN or infinite; the message names each.
        """
        return assemble_row(symbol, values, self.manifest.features, self.manifest.symbols)

    def matrix_of_bars(self, symbol: str, bars: np.ndarray) -> np.ndarray:
        """The input of one forecast: float64 (1, f + 1) where the window is 1, else float64 (1, window, f + 1).

        Args:
            symbol: Inside spelling.
            bars: The manifest's features of the last `window` successive bars, float64 (window, f), oldest first.

        Raises:
            UnknownSymbolError: the model does not know the symbol.
            MissingFeatureError: another shape, or a value is NaN or infinite.
        """
        manifest = self.manifest
        expected = (manifest.window, len(manifest.features))
        if bars.shape != expected:
            raise MissingFeatureError(
                f"Expected {expected[0]} successive bars with {expected[1]} features each, was {bars.shape}. A window "
                "is whole, or there is no forecast."
            )
        columns = {name: bars[:, place] for place, name in enumerate(manifest.features)}
        matrix = self.matrix([symbol] * manifest.window, columns)
        return matrix if manifest.window == 1 else matrix[np.newaxis]

    def matrix(self, row_symbols: Sequence[str], columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The design matrix, float64 (n, f + 1), of n rows: their symbols, and the values (n,) of each feature.

        Raises:
            UnknownSymbolError: the model does not know a row's symbol.
            MissingFeatureError: a feature is absent, or NaN or infinite in some row.
        """
        return assemble_matrix(row_symbols, columns, self.manifest.features, self.manifest.symbols)

    def predict_bars(
        self, row_symbols: Sequence[str], ts_ms: np.ndarray, columns: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Calibrated probabilities, float64 (n,), at n bars in any order, each of whose window is among the others.

        NaN where that is not so: at the first bars of a symbol, and after a missing one.

        Args:
            row_symbols: Symbol of each bar.
            ts_ms: Open time of each bar, int64 (n,), UTC milliseconds.
            columns: Feature name to values, each (n,).

        Raises:
            UnknownSymbolError, MissingFeatureError: as `matrix`.
        """
        manifest, matrix = self.manifest, self.matrix(row_symbols, columns)
        if manifest.window == 1:
            return self.predict(matrix)
        bar_ms = Timeframe.parse(manifest.timeframe).milliseconds
        windows = RowWindows.over(matrix, matrix[:, -1], ts_ms, manifest.window, bar_ms)
        return windows.apply(self.predict, np.arange(len(matrix)))

    def save(self, folder: Path) -> None:
        """Write the bundle as that folder: whole, or not at all. A bundle that stood there is replaced.

        A process killed in between leaves the old folder, the new one or, for an instant while replacing, none;
        never a mixture. What it leaves behind is named `.<name>.<random>.tmp`.

        Raises:
            HomeNotWritableError: the operating system refused; a bundle that stood there is as it was.
        """
        from levibot_core.stores.files import write_bytes_atomically, write_text_atomically
        from levibot_core.stores.paths import not_writable  # Brings Polars, which serving does without.

        temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")
        replaced = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")
        try:
            for name, content in self._files.items():
                write_bytes_atomically(temporary / name, content)
            write_text_atomically(temporary / MANIFEST, _manifest_text(self.manifest))
            if folder.exists():
                folder.rename(replaced)
            temporary.rename(folder)
        except OSError as error:
            if replaced.exists() and not folder.exists():
                replaced.rename(folder)
            raise not_writable(folder, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path) -> "ModelBundle":
        """Read a bundle. Every byte is checked before it is used.

        Raises:
            BundleError: no bundle is there, its format or family is unknown, or a file is missing, altered or
                not part of it.
        """
        try:
            found = {entry.name: entry for entry in folder.iterdir()}
            strange = sorted(name for name, entry in found.items() if entry.is_symlink() or not entry.is_file())
            if strange:
                raise BundleError(f"Expected nothing but plain files in the bundle {folder}, was {strange}. {_REMEDY}")
            files = {name: entry.read_bytes() for name, entry in found.items()}
        except OSError as error:
            raise BundleError(f"Expected a model bundle in {folder}, but {error.strerror}. {_REMEDY}") from error
        if MANIFEST not in files:
            raise BundleError(f"Expected {MANIFEST} in the bundle {folder}, was without. {_REMEDY}")
        return cls.from_files(files)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "ModelBundle":
        """Read a bundle from the content of its files, the manifest included. Every byte is checked before it is used.

        Raises:
            BundleError: as `load`.
        """
        if MANIFEST not in files:
            raise BundleError(f"Expected {MANIFEST} among the files of a bundle, was {sorted(files)}. {_REMEDY}")
        others = {name: content for name, content in files.items() if name != MANIFEST}
        return cls(_read_manifest(files[MANIFEST]), others)


_REMEDY = "Fetch the model from the registry again."


def _manifest_text(manifest: BundleManifest) -> str:
    content = manifest.model_dump(mode="json")
    return _canonical({**content, _CHECKSUM: _checksum(content)})


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _read_manifest(raw: bytes) -> BundleManifest:
    """Check a manifest against its own checksum, on the content as it stands rather than on what this version knows.

    So a bundle written before a field existed stays readable once the field has a default.
    """
    try:
        content = json.loads(raw)
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        claimed = content.pop(_CHECKSUM, None)
        expected = _checksum(content)
        intact = claimed == expected and raw == _canonical({**content, _CHECKSUM: claimed}).encode()
    except (ValueError, RecursionError) as error:
        raise BundleError(f"Expected {MANIFEST} to be JSON, but {error}. {_REMEDY}") from error
    if content.get("format") != FORMAT:
        raise BundleError(
            f"Expected a bundle of format {FORMAT!r}, was {content.get('format')!r}. "
            "Use the version of the platform that wrote it, or train the model again."
        )
    if not intact:
        raise BundleError(f"Expected {MANIFEST} to have the checksum {claimed}, was {expected}: altered. {_REMEDY}")
    try:
        return BundleManifest.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise BundleError(f"Expected a manifest this version understands, but {problems}. {_REMEDY}") from error


def _check_files(manifest: BundleManifest, files: Mapping[str, bytes]) -> None:
    family = FAMILIES[manifest.family]
    needed, listed = {*family.files, CALIBRATOR}, set(manifest.files)
    known = {name for name in listed if family.owns(name) or name in (CALIBRATOR, *PARTS)}
    problems = [f"{name} is missing" for name in sorted((needed | listed) - set(files))]
    problems += [f"{name} is not part of it" for name in sorted(set(files) - known)]
    for name, expected in sorted(manifest.files.items()):
        if name in files and (was := hashlib.sha256(files[name]).hexdigest()) != expected:
            problems.append(f"{name} was altered (expected SHA-256 {expected}, was {was})")
    if problems:
        raise BundleError(f"Expected the files of a {manifest.family} bundle: {'; '.join(problems)}. {_REMEDY}")
