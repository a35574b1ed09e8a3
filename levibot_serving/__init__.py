"""The slim inference API. It imports neither Dagster, torch, pandas nor Evidently."""
