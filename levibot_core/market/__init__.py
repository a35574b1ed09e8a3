"""Candles and what surrounds them: symbols, timeframes, quality rules, revisions, sources and the simulator."""
