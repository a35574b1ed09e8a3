"""Backtests: the engine, what its result is worth, and the report a person reads."""
