"""Drift: how far the data of today lies from the data a model was trained on. Computes and reports, decides nothing."""
