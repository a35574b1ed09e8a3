"""Market data from a source into the lake, and the blocking checks on it."""
