"""An Optuna study that survives `kill -9` at any instant: in a journal file, or in a database that workers share.

What is searched is in `.tuning`. Two objectives: validation log loss, to be low, and the after-cost Sharpe ratio of a
simple policy on the validation rows, to be high.
"""

import fcntl
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random

from levibot_core.errors import ConfigurationError
from levibot_core.stores.paths import not_writable

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_ABOUT, _OUTCOME, _WORKER = "about", "outcome", "worker"
_SUFFIX = ".journal"
_TRIALS_FOR_IMPORTANCE = 4


class _KernelLock(JournalFileOpenLock):
    """A lock on a file that the kernel lets go of when its holder dies; Optuna's own has to be waited out then."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class ResumableStudy:
    """A study whose next trial depends only on the seed and the trials that finished before it.

    So a study that was interrupted anywhere goes on as if it had not been. One process works on a study in a journal
    at a time. Several may work on one in a database; then its trials depend on who finished first, and there may be
    one more per further worker than was asked for.
    """

    def __init__(self, location: Path | str, name: str, seed: int = 0, about: Mapping[str, Any] | None = None) -> None:
        """Open the study of that name, or begin it; what a killed process left is cleared away.

        Args:
            location: Folder with one journal per study, made when missing; or the address of a database.
            name: Name of the study.
            seed: Seed of the sampler.
            about: Kept with a new study, for those who read it later. JSON values.

        Raises:
            HomeNotWritableError: the journal cannot be written.
            ConfigurationError: the database does not answer.
        """
        logging.getLogger("optuna").setLevel(logging.WARNING)
        self.name = name
        self._seed = seed
        self._shared = not isinstance(location, Path)
        self._study = optuna.create_study(
            storage=_open_database(location) if isinstance(location, str) else _open_journal(location, name),
            study_name=name,
            load_if_exists=True,
            directions=["minimize", "maximize"],
        )
        if about is not None and _ABOUT not in self._study.user_attrs:
            self._study.set_user_attr(_ABOUT, dict(about))
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_abandoned(trial):
                self._study.tell(trial.number, state=TrialState.FAIL)

    @property
    def about(self) -> dict[str, Any]:
        """What was kept with the study when it began."""
        return dict(self._study.user_attrs.get(_ABOUT, {}))

    @property
    def finished(self) -> list[FrozenTrial]:
        """Trials that were completed or pruned, oldest first; what was interrupted is not among them."""
        return self._study.get_trials(deepcopy=False, states=_FINISHED)

    @property
    def completed(self) -> list[FrozenTrial]:
        """Trials that ran to their end, oldest first."""
        return self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def ask(self, space: dict[str, BaseDistribution], first: dict[str, float]) -> optuna.Trial:
        """Begin the next trial: `first` for the very first one, then what the sampler finds promising."""
        done = len(self.finished)
        begun = len(self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)))
        # Trials of other workers are part of the seed, or two workers would be given the same parameters.
        seed = int(np.random.SeedSequence([self._seed, done, begun][: 3 if begun else 2]).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        if not done and not begun:
            self._study.enqueue_trial(first)
        trial = self._study.ask(space)
        if self._shared:
            trial.set_user_attr(_WORKER, _this_worker())
        return trial

    def tell(self, trial: optuna.Trial, values: tuple[float, float] | None, outcome: Mapping[str, Any]) -> None:
        """Record how a trial ended: its log loss and Sharpe ratio, or None when it was pruned; and all else as JSON."""
        trial.set_user_attr(_OUTCOME, dict(outcome))
        if values is None:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, list(values))

    def best(self) -> FrozenTrial:
        """The completed trial of the lowest log loss among those whose Sharpe ratio is not below 0.

        Staying flat has a Sharpe ratio of 0, so a trial below it would better not act; where every trial is below,
        the lowest log loss decides. It is on the Pareto front: what beats it in one objective loses in the other. The
        highest Sharpe ratio is not taken: the best of many on a few weeks of validation rows flatters. Ties go to the
        higher Sharpe ratio, then to the older trial.
        """
        found = self.completed
        sound = [trial for trial in found if trial.values[1] >= 0.0] or found
        return min(sound, key=lambda trial: (trial.values[0], -trial.values[1], trial.number))

    def parameter_importances(self) -> dict[str, float]:
        """How much each parameter says about the log loss, shares that sum to 1, highest first.

        By PED-ANOVA (S. Watanabe, A. Bansal, F. Hutter, "PED-ANOVA: efficiently quantifying hyperparameter importance
        in arbitrary subspaces", 2023), which draws nothing at random. Empty where too few trials differ.
        """
        completed = self.completed
        if len({trial.values[0] for trial in completed}) < _TRIALS_FOR_IMPORTANCE:
            return {}
        of_the_loss = optuna.create_study(direction="minimize")
        of_the_loss.add_trials(
            optuna.trial.create_trial(
                value=trial.values[0], params=trial.params, distributions=trial.distributions, state=trial.state
            )
            for trial in completed
        )
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        shares = optuna.importance.get_param_importances(of_the_loss, evaluator=evaluator)
        return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        """Whether nobody works on a running trial any more. Of other machines nothing is known."""
        if not self._shared:
            return True
        host, _, process = str(trial.user_attrs.get(_WORKER, "")).rpartition("/")
        return host == socket.gethostname() and not _process_lives(int(process))


def outcome_of(trial: FrozenTrial) -> dict[str, Any]:
    """What `ResumableStudy.tell` kept with a trial."""
    return dict(trial.user_attrs[_OUTCOME])


def study_names(location: Path | str) -> dict[str, float]:
    """Name of every study there to when it last changed, seconds since 1970; infinity in a database, which hides it."""
    if isinstance(location, Path):
        return {path.name.removesuffix(_SUFFIX): path.stat().st_mtime for path in location.glob(f"[!.]*{_SUFFIX}")}
    return dict.fromkeys(optuna.get_all_study_names(_open_database(location)), float("inf"))


def _open_journal(folder: Path, name: str) -> BaseStorage:
    journal = (folder / f"{name}{_SUFFIX}").absolute()
    lock = _KernelLock(journal.with_name(f".{journal.name}.lock"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _drop_unfinished_line(journal, lock)
        return JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
    except OSError as error:
        raise not_writable(journal, error) from error


def _open_database(url: str) -> BaseStorage:
    try:
        parsed = make_url(url)
        # SQLite gives up after five seconds behind another writer unless told otherwise.
        options = {"connect_args": {"timeout": 60}} if parsed.get_backend_name() == "sqlite" else {}
        # No connection outlives its transaction: minutes pass between two, in which a server may be restarted.
        return _with_tables(url, {**options, "poolclass": NullPool})
    except (SQLAlchemyError, ImportError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigurationError(
            f"Expected LEVIBOT_STUDY_URL to name a database that answers, but {reason}. Correct it, or leave it unset "
            "to keep studies in files of the home."
        ) from error


def _is_made_by_another(error: BaseException) -> bool:
    """Whether tables could not be made because another worker was making them; databases say it differently."""
    return isinstance(error, IntegrityError | ProgrammingError) or "already exists" in str(error)


@retry(
    retry=retry_if_exception(_is_made_by_another), wait=wait_random(0.1, 0.5), stop=stop_after_attempt(6), reraise=True
)
def _with_tables(url: str, options: dict[str, Any]) -> BaseStorage:
    """The storage, its tables made where there are none; of workers that begin at once, all but one try again."""
    return RDBStorage(url, engine_kwargs=options)


def _drop_unfinished_line(journal: Path, lock: _KernelLock) -> None:
    """Cut off what a process was writing when it died: the next writer would append to it and spoil both."""
    if not journal.exists():
        return
    lock.acquire()
    try:
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(journal, whole)
    finally:
        lock.release()


def _this_worker() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def _process_lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # It lives, as another user's.
    return True
