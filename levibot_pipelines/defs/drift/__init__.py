"""Drift of the features against the champion's training data."""
