"""Calibration and registration of the candidate."""
