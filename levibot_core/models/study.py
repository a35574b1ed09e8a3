"""An Optuna study in a journal file that survives `kill -9` at any instant. What is searched is in `.tuning`."""

import fcntl
import logging
import os
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from levibot_core.stores.paths import not_writable

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


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
    """A minimisation study whose next trial depends only on the seed and the trials that finished before it.

    So a study that was interrupted anywhere goes on as if it had not been. One process works on a study at a time.
    """

    def __init__(self, journal: Path, name: str, seed: int, pruner: optuna.pruners.BasePruner) -> None:
        """Open the study of that name in the journal, or begin it; what a killed process left is cleared away.

        Raises:
            HomeNotWritableError: the journal cannot be written.
        """
        logging.getLogger("optuna").setLevel(logging.WARNING)
        self._seed = seed
        journal = journal.absolute()
        lock = _KernelLock(journal.with_name(f".{journal.name}.lock"))
        try:
            journal.parent.mkdir(parents=True, exist_ok=True)
            _drop_unfinished_line(journal, lock)
            storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
            self._study = optuna.create_study(
                storage=storage, study_name=name, load_if_exists=True, direction="minimize", pruner=pruner
            )
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                self._study.tell(trial.number, state=TrialState.FAIL)
        except OSError as error:
            raise not_writable(journal, error) from error

    @property
    def finished(self) -> list[FrozenTrial]:
        """Trials that were completed or pruned, oldest first; what was interrupted is not among them."""
        return self._study.get_trials(deepcopy=False, states=_FINISHED)

    def ask(self, space: dict[str, BaseDistribution], first: dict[str, float]) -> optuna.Trial:
        """Begin the next trial: `first` for the very first one, then what the sampler finds promising."""
        done = len(self.finished)
        seed = int(np.random.SeedSequence([self._seed, done]).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        if done == 0 and not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.enqueue_trial(first)
        return self._study.ask(space)

    def tell(self, trial: optuna.Trial, value: float | None) -> None:
        """Record the outcome of a trial: its value, or None when it was pruned."""
        self._study.tell(trial, value, state=TrialState.PRUNED if value is None else TrialState.COMPLETE)

    def best(self) -> FrozenTrial:
        """The completed trial of the lowest value; of equal ones the oldest."""
        completed = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return min(completed, key=lambda trial: (trial.value, trial.number))


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
