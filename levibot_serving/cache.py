"""The last good models on the local disk, so that the API starts and serves while the registry is away.

    <home>/serving/models/<version>-<digest>/     one verified bundle, nothing else of the registered version
    <home>/serving/current.json                   the registry's record of the one to start with; moved last

Only model bundles get in: text and JSON with checked hashes. Whatever else a registered version carries (code, an
environment, pickles) is left behind and never read.
"""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from levibot_core.errors import BundleError
from levibot_core.models.bundle import FORMAT, MANIFEST, ModelBundle
from levibot_core.stores.files import write_text_atomically
from levibot_core.stores.paths import not_writable
from levibot_serving.registry import ModelRecord

logger = logging.getLogger(__name__)

KEPT_MODELS = 5
ABANDONED_AFTER_S = 3600.0


class ModelCache:
    """Verified bundles below one folder. Several processes may share it."""

    def __init__(self, root: Path) -> None:
        self._models = root / "models"
        self._pointer = root / "current.json"

    def load(self, record: ModelRecord) -> ModelBundle | None:
        """The bundle of that version, or None when it is not here or no longer sound (it is removed then).

        Raises:
            HomeNotWritableError: an unsound bundle cannot be removed.
        """
        folder = self._models / record.key
        if not folder.is_dir():
            return None
        try:
            return ModelBundle.load(folder)
        except BundleError as error:
            logger.warning("A model in the local cache is unsound and will be fetched again: %s", error)
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise not_writable(folder, error) from error
        return None

    def add(self, record: ModelRecord, download: Callable[[Path], None]) -> ModelBundle:
        """Fetch a version into a temporary folder, verify its bundle, and move that alone into place.

        Raises:
            BundleError: the version holds no bundle, more than one, or one that is altered.
            HomeNotWritableError: the cache cannot be written.
        """
        folder = self._models / record.key
        try:
            self._models.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._models, prefix=".", suffix=".tmp") as workspace:
                download(Path(workspace))
                found = find_bundle(Path(workspace))
                bundle = ModelBundle.load(found)
                if not folder.exists():
                    found.rename(folder)
        except OSError as error:
            raise not_writable(folder, error) from error
        return bundle

    def remember(self, record: ModelRecord) -> None:
        """Make this version the one to start with, and let go of the oldest others.

        Raises:
            HomeNotWritableError: the cache cannot be written.
        """
        write_text_atomically(self._pointer, record.model_dump_json(indent=2) + "\n")
        try:
            self._prune(keep=record.key)
        except OSError as error:
            raise not_writable(self._models, error) from error

    def last_good(self) -> tuple[ModelRecord, ModelBundle] | None:
        """The model that was served last, or None when nothing was ever served from this home.

        Raises:
            BundleError: it is there, but not as it was when it was served. Nothing unsound is ever returned.
        """
        if not self._pointer.is_file():
            return None
        try:
            record = ModelRecord.model_validate_json(self._pointer.read_bytes())
            return record, ModelBundle.load(self._models / record.key)
        except ValidationError as error:
            raise self._unsound(f"{self._pointer.name} is not the record of a model") from error
        except (BundleError, OSError) as error:
            raise self._unsound(str(error)) from error

    def _unsound(self, finding: str) -> BundleError:
        return BundleError(
            f"The model in the local cache {self._pointer.parent} is not what was served, and is refused: {finding} "
            "Start the model registry, or delete that folder."
        )

    def _prune(self, keep: str) -> None:
        """Remove all but the newest models, and what a killed process left behind."""
        folders = sorted(self._models.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
        models = [folder for folder in folders if not folder.name.startswith(".") and folder.name != keep]
        abandoned = [
            folder
            for folder in folders
            if folder.name.startswith(".") and time.time() - folder.stat().st_mtime > ABANDONED_AFTER_S
        ]
        for folder in (*models[KEPT_MODELS - 1 :], *abandoned):
            shutil.rmtree(folder)


def find_bundle(folder: Path) -> Path:
    """The one folder at or below `folder` that holds a bundle manifest.

    Raises:
        BundleError: there is none, or more than one.
    """
    found = [path.parent for path in sorted(folder.rglob(MANIFEST)) if _is_bundle_manifest(path)]
    if len(found) != 1:
        raise BundleError(
            f"Expected one model bundle ({MANIFEST} of a format such as {FORMAT}) in the registered version, "
            f"was {len(found)}. Only bundles are served; register the model through the promotion pipeline."
        )
    return found[0]


def _is_bundle_manifest(path: Path) -> bool:
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(manifest, dict) and str(manifest.get("format", "")).startswith("levibot-bundle/")
