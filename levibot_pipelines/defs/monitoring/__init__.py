"""Watching the features: drift over time, staleness, correlation, importance, parity of what was served."""
