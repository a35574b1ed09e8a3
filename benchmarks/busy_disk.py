"""A disk that others keep busy, for the length of a benchmark's fault."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def disk_kept_busy(stop_file: Path, writers: int = 2) -> Iterator[None]:
    """Write and sync a megabyte again and again, until the stop file appears."""
    chunk = os.urandom(1 << 20)

    def write(path: Path) -> None:
        with path.open("wb") as file:
            while not stop_file.exists():
                file.seek(0)
                file.write(chunk)
                file.flush()
                os.fsync(file.fileno())

    threads = [
        threading.Thread(target=write, args=(stop_file.with_name(f"busy-{number}"),), daemon=True)
        for number in range(writers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop_file.touch()
        for thread in threads:
            thread.join()
