"""Dagster resources: adapters that hand plain objects to assets."""
