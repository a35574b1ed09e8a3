"""The references that assets hand to each other: frozen, small, readable as JSON."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Reference(BaseModel):
    """Base of all references."""

    model_config = ConfigDict(frozen=True)


class SnapshotReference(Reference):
    """A training snapshot."""

    snapshot_id: str


class CandidateReference(Reference):
    """A tuned, uncalibrated candidate of a family: its MLflow run and the folder with its intermediate files.

    `left_out` says why the family was not trained, and is None when it was; without a training there is no run, and
    nothing in the folder.
    """

    run_id: str
    snapshot_id: str
    family: str
    folder: Path
    left_out: str | None = None


class EnsembleReference(Reference):
    """The calibrated families of a snapshot, the ensemble of them where one could be made, and whether it is taken."""

    members: tuple[CandidateReference, ...]
    candidate: CandidateReference | None
    taken: bool
    reason: str
    verdict: str | None = None  # JSON of `EnsembleVerdict`


class ModelReference(Reference):
    """A calibrated candidate, registered."""

    version: int
    run_id: str
    snapshot_id: str
    folder: Path


class RebuildReference(Reference):
    """Whether a candidate came out the same when it was trained again."""

    version: int
    identical: bool


class BacktestReference(Reference):
    """A backtest's files and what it says against trading the model."""

    version: int
    html: Path
    json_file: Path
    reasons_against_trading: tuple[str, ...]


class CardReference(Reference):
    """A model card's files."""

    version: int
    json_file: Path
    markdown: Path
    html: Path


class ChallengerReference(Reference):
    """A judged candidate."""

    version: int
    accepted: bool
