"""Everything Dagster, MLflow and command line: thin adapters around `levibot_core`.

Importing the package wires nothing; `levibot_pipelines.definitions` is the one entry point.
"""
