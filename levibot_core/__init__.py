"""Pure domain code of the LeviBot platform.

Market data, features, labels, validation, models, backtests, drift and the file stores live here.
Nothing in this package imports Dagster, FastAPI or MLflow; `import-linter` enforces it.
"""
