"""The warehouse: dbt models over the lake as assets, and their tests as checks."""
