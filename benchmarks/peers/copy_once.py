"""The floor: numpy reads the inputs' bytes and writes as many bytes as the result has, once."""

import numpy as np

from benchmarks.worker import Arguments, Task, serve


def prepare(arguments: Arguments) -> Task:
    """Arguments: `rows`, the number of 8-byte columns `inputs` and `outputs`, `fresh` memory or always the same."""
    rows, outputs = int(arguments["rows"]), int(arguments["outputs"])
    columns = np.random.default_rng(0).random((int(arguments["inputs"]), rows))
    shape = (outputs, rows)
    reused = None if arguments["fresh"] else np.empty(shape)

    def copy() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        written = np.empty(shape) if reused is None else reused
        for index in range(outputs):
            # Column after column, so that each input comes from memory once and from the cache after that.
            np.copyto(written[index], columns[index * len(columns) // outputs])
        return written

    return Task(
        run=copy,
        facts={"rows": rows, "bytes": columns.nbytes + outputs * rows * 8},
        packages=("numpy",),
    )


if __name__ == "__main__":
    serve(prepare)
