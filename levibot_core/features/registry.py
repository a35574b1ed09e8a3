"""The feature registry: features.yml, checked and read into frozen objects.

What a family computes is in `kernels`, what an input series is in `inputs`; a registry that contradicts them does not
load. Computing is `compute`'s work.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema
import polars as pl
import yaml

from levibot_core.errors import ConfigurationError, MissingFeatureError
from levibot_core.features.inputs import OF_HIGHER_TIMEFRAMES, SERIES
from levibot_core.features.kernels import FAMILIES, Kernel
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import FEATURES, Column, Table

BASE = Timeframe.parse("5m")
"""The bars in which the warm-up of features of higher timeframes is stated."""

SUMMATION = "pairwise, newest first"
"""How windows are summed (`levibot_core.features.folds`); part of what a feature set's hash vouches for."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature: an entry of features.yml at one window; see the head of that file for what the fields mean."""

    name: str
    family: str
    inputs: tuple[str, ...]
    window: int
    warm_up: int
    unit: str
    formula: str
    since: str
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    timeframe: str | None = None
    replaces: tuple[str, ...] = ()

    @property
    def step_ms(self) -> int | None:
        """Length of the bars of a higher timeframe that the window counts; None for the set's own bars."""
        return None if self.timeframe is None else Timeframe.parse(self.timeframe).milliseconds

    @property
    def definition(self) -> dict[str, Any]:
        """What decides the values."""
        defining = asdict(self)
        del defining["replaces"]
        return defining


@dataclass(frozen=True)
class FeatureSet:
    """A version of the feature set: its features in registry order."""

    version: str
    features: tuple[FeatureSpec, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, which are column names, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def warm_up(self) -> int:
        """Bars of raw data, the last included, from which every feature of the last bar can be computed."""
        return max(feature.warm_up for feature in self.features)

    @property
    def sha256(self) -> str:
        """Hash of the definition, whatever its layout in the file: lower-case hexadecimal."""
        definition = {
            "version": self.version,
            "summation": SUMMATION,
            "features": [feature.definition for feature in self.features],
        }
        return hashlib.sha256(json.dumps(definition, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def require_timeframe(self, timeframe: Timeframe) -> None:
        """Refuse bars that the set is not made for.

        Raises:
            ConfigurationError: it has features of higher timeframes, whose warm-up is stated in bars of `BASE`.
        """
        higher = [feature.name for feature in self.features if feature.timeframe is not None]
        if higher and timeframe.milliseconds != BASE.milliseconds:
            raise ConfigurationError(
                f"Expected bars of {BASE} for feature set {self.version}, which has features of higher timeframes "
                f"({higher[0]}, ...), was {timeframe}. Set LEVIBOT_TIMEFRAME={BASE} or LEVIBOT_FEATURE_SET=v1."
            )

    def only(self, names: Iterable[str]) -> "FeatureSet":
        """The same version with these features alone, whose values are the same: each depends on its window only.

        Raises:
            MissingFeatureError: the version has no feature of one of the names.
        """
        wanted = set(names)
        if strange := wanted.difference(self.names):
            raise MissingFeatureError(
                f"Expected features of the set {self.version!r}, was {', '.join(sorted(strange))}. The model was made "
                "by another version of the platform: train it again."
            )
        return FeatureSet(self.version, tuple(feature for feature in self.features if feature.name in wanted))

    def table(self) -> Table:
        """The catalogue's feature table with a Float64 column per feature."""
        return FEATURES.with_columns(
            [Column(feature.name, pl.Float64(), feature.formula, feature.unit) for feature in self.features]
        )


@cache
def load_registry(version: str = "v1") -> FeatureSet:
    """Read that version of the feature set from features.yml.

    Raises:
        ConfigurationError: there is no such version, or the file breaks its schema or contradicts a kernel.
    """
    return parse_registry(_registry_text(), version)


def reach_of(spec: FeatureSpec, kernel: Kernel) -> int:
    """Bars, of the timeframe that the feature counts, that one value looks at, its own included."""
    return kernel.reach(spec.window, spec.parameters) + max(SERIES[name].reach for name in spec.inputs)


def newest_version() -> str:
    """The last of the versions in features.yml: it holds every feature there is."""
    versions: list[str] = _document(_registry_text())["versions"]
    return versions[-1]


def parse_registry(text: str, version: str, kernels: Mapping[str, Kernel] = FAMILIES) -> FeatureSet:
    """Read a version of a feature set from the text of a registry file.

    Raises:
        ConfigurationError: see `load_registry`; the message names every entry that is wrong, and how.
    """
    document = _document(text)
    problems = list(_schema_problems(document))
    if not problems:
        specs = [spec for entry in document["features"] for spec in _specs(entry)]
        problems = [*_unknown_windows(document["features"]), *_contradictions(specs, document["versions"], kernels)]
    if problems:
        raise ConfigurationError("The feature registry cannot be used. " + "; ".join(problems))
    if version not in document["versions"]:
        raise ConfigurationError(f"Expected a feature set of {document['versions']}, was {version!r}.")
    included = document["versions"][: document["versions"].index(version) + 1]
    return FeatureSet(version, tuple(spec for spec in specs if spec.since in included))


def _registry_text() -> str:
    return files(__package__).joinpath("features.yml").read_text("utf-8")


def _document(text: str) -> Any:
    try:
        # Through JSON, so that the windows, which YAML reads as numbers, are property names.
        return json.loads(json.dumps(yaml.safe_load(text)))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"Expected the feature registry to be YAML, was not: {error}") from error


def _schema_problems(document: Any) -> Iterator[str]:
    schema = json.loads(files(__package__).joinpath("features.schema.json").read_text("utf-8"))
    for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
        yield f"{error.json_path}: {error.message}"


def _specs(entry: Mapping[str, Any]) -> Iterator[FeatureSpec]:
    """The features of an entry: one, or one per window of `windows`."""
    common = {name: value for name, value in entry.items() if name != "windows"}
    earlier = entry.get("replaces", ())
    common |= {"inputs": tuple(entry["inputs"])}
    if "windows" not in entry:
        yield FeatureSpec(**{**common, "replaces": tuple(earlier)})
        return
    for window, warm_up in entry["windows"].items():
        own = {name: entry[name].replace("{window}", window) for name in ("name", "formula")}
        replaces = earlier.get(window, ()) if isinstance(earlier, dict) else earlier
        yield FeatureSpec(**{**common, **own, "window": int(window), "warm_up": warm_up, "replaces": tuple(replaces)})


def _unknown_windows(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for entry in entries:
        earlier = entry.get("replaces", ())
        if isinstance(earlier, dict) and (unknown := earlier.keys() - entry["windows"].keys()):
            yield f"{entry['name']}: expected replaces by one of its windows, was {sorted(unknown)}"


def _contradictions(
    specs: Sequence[FeatureSpec], versions: Sequence[str], kernels: Mapping[str, Kernel]
) -> Iterator[str]:
    for name, count in Counter(spec.name for spec in specs).items():
        if count > 1:
            yield f"{name}: expected once, was there {count} times"
    for spec in specs:
        yield from (f"{spec.name}: {problem}" for problem in _spec_problems(spec, versions, kernels))


def _spec_problems(spec: FeatureSpec, versions: Sequence[str], kernels: Mapping[str, Kernel]) -> Iterator[str]:
    if spec.since not in versions:
        yield f"expected since one of {list(versions)}, was {spec.since}"
    unknown = [name for name in spec.inputs if name not in SERIES]
    if unknown:
        yield f"expected inputs of {sorted(SERIES)}, was {unknown}"
    kernel = kernels.get(spec.family)
    if kernel is None:
        yield f"expected a family of {sorted(kernels)}, was {spec.family}"
        return
    if kernel.arity not in (None, len(spec.inputs)):
        yield f"expected {kernel.arity} inputs, was {len(spec.inputs)}"
    if set(spec.parameters) != set(kernel.parameters):
        yield f"expected parameters {sorted(kernel.parameters)}, was {sorted(spec.parameters)}"
    elif not unknown:
        reach = reach_of(spec, kernel)
        needed = reach if spec.step_ms is None else _base_bars(reach, spec.step_ms)
        if spec.warm_up != needed:
            yield f"expected warm_up {needed}, was {spec.warm_up}"
    yield from _timeframe_problems(spec)


def _timeframe_problems(spec: FeatureSpec) -> Iterator[str]:
    if spec.step_ms is not None:
        if spec.step_ms <= BASE.milliseconds or spec.step_ms % BASE.milliseconds:
            yield f"expected a timeframe of whole bars of {BASE}, was {spec.timeframe}"
        if lower := sorted(set(spec.inputs) - OF_HIGHER_TIMEFRAMES):
            yield f"expected inputs that exist at higher timeframes, was {lower}"


def _base_bars(reach: int, step_ms: int) -> int:
    """Base bars in which `reach` closed longer bars always lie: the newest may have closed just under one ago."""
    ratio = step_ms // BASE.milliseconds
    return (reach + 1) * ratio - 1
