"""The peers' side of each comparison, one module per measured process.

A module runs in the environment of its peer (`make bench-peers`), where the platform's packages are absent; those of
Polars, DuckDB and numpy run in the platform's own.
"""
