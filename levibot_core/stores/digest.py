"""One digest per table content, independent of how a file format lays the bytes out.

Two frames have the same digest when their columns have the same names, types and order, and their values the same
bits. What the digests are kept for is told by `levibot_core.stores.lake` and `levibot_core.stores.snapshots`.
"""

import hashlib
import json

import polars as pl


def frame_digest(frame: pl.DataFrame) -> str:
    """SHA-256 of a table's content, in lower-case hexadecimal.

    The digest covers, column by column: name, type and length as JSON; where nulls are, if any; then the values as
    little-endian machine numbers (times as integers of their unit), or as JSON for text.
    """
    digest = hashlib.sha256()
    for column in frame:
        digest.update(json.dumps([column.name, str(column.dtype), column.len()]).encode())
        if column.null_count():
            digest.update(column.is_null().to_numpy().tobytes())
        if column.dtype == pl.String:
            digest.update(json.dumps(column.to_list()).encode())
        else:
            physical = column if column.dtype.is_numeric() else column.to_physical()
            numbers = (physical.fill_null(0) if column.null_count() else physical).to_numpy()
            digest.update(numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()
