"""Metrics of an API with several workers: where each keeps what it counted, so that any of them can tell of all.

A scrape of a shared port reaches one worker. The Prometheus client's answer is a file per worker in the folder that
`PROMETHEUS_MULTIPROC_DIR` names, set before anything is counted. What is counted is in `levibot_serving.metrics`.
"""

import os
import shutil
from typing import Final

from levibot_core.stores.paths import Home, not_writable

WORKERS_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"


def empty_worker_metrics(home: Home) -> None:
    """Make the folder of a home, empty, before its workers start: counts begin at 0 with them.

    Raises:
        HomeNotWritableError: the operating system refused.
    """
    folder = home.worker_metrics
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise not_writable(folder, error) from error


def forget_this_worker() -> None:
    """Take this process out of what tells of living workers; what it counted stays counted."""
    if WORKERS_FOLDER_VARIABLE in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
