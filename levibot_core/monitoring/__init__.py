"""Watching features in operation: parity, staleness, drift over time, correlation, importance. Decides nothing."""
