"""The model that answers requests, and whether its answers may be traded on. Immutable: a swap is one assignment.

How a bundle reaches this host is `levibot_serving.model_store`; what it forecasts is `levibot_serving.predictor`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from levibot_core.models.bundle import BundleManifest, ModelBundle
from levibot_core.models.predictors import BASE_RATE
from levibot_core.models.uncertainty import UncertaintyParts
from levibot_serving.registry import ModelRecord

REAL_MARKETS = frozenset({"exchange", "recorded"})


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One version of the registered model, ready to predict.

    Attributes:
        bundle: The verified model.
        record: What the registry said about the version when it was last asked.
        tradable: Whether forecasts of this model may be traded on at all.
        reasons: Why not, or what else the gates had to say.
        loaded_at_ms: When this host began to serve it, UTC milliseconds.
        from_cache: True while no registry has confirmed it since this process started.
        uncertainty: The optional parts of the bundle, read.
    """

    bundle: ModelBundle
    record: ModelRecord
    tradable: bool
    reasons: tuple[str, ...]
    loaded_at_ms: int
    from_cache: bool
    uncertainty: UncertaintyParts = field(default_factory=UncertaintyParts)

    @property
    def version(self) -> int:
        """Version of the registered model."""
        return self.record.version

    @property
    def snapshot_id(self) -> str:
        """The training snapshot, from the manifest, whose hash is checked."""
        return self.bundle.manifest.snapshot_id

    @property
    def source_kind(self) -> str:
        """The kind of market it was trained on, from the manifest."""
        return self.bundle.manifest.source_kind


def judge(manifest: BundleManifest, tags: Mapping[str, str]) -> tuple[bool, tuple[str, ...]]:
    """Decide whether a version may be traded on, and say why not.

    Only an explicit tag `tradable: true` on a model trained on a real market says yes. A tag that is missing or
    cannot be read says no; so does any other source, and the base rate, whatever its tags claim.

    Returns:
        Whether it is tradable, and the reasons: those found here first, then those of the tag `reasons`
        that say something else.
    """
    objections: list[str] = []
    if manifest.family == BASE_RATE:
        objections.append("it is the base rate: it knows how often prices rose, and nothing about now")
    elif manifest.source_kind not in REAL_MARKETS:
        objections.append(f"trained on a market of kind {manifest.source_kind!r}, which is never tradable")
    tag = tags.get("tradable")
    if tag is None:
        objections.append("the registered version has no tag 'tradable'")
    elif tag not in ("true", "false"):
        objections.append(f"the tag 'tradable' of the registered version is {tag[:40]!r}, neither true nor false")
    said, readable = _said_by_the_gates(tags)
    if not readable:
        objections.append("the tag 'reasons' of the registered version is not a JSON list of strings")
    if tag == "false" and not said:
        objections.append("the registered version is tagged as not tradable, without a reason")
    return tag == "true" and not objections, tuple(dict.fromkeys((*objections, *said)))


def _said_by_the_gates(tags: Mapping[str, str]) -> tuple[tuple[str, ...], bool]:
    try:
        said = json.loads(tags.get("reasons", "[]"))
    except ValueError:
        return (), False
    if not isinstance(said, list) or not all(isinstance(reason, str) for reason in said):
        return (), False
    return tuple(said), True
