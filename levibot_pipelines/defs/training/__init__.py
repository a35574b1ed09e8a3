"""The base rate and the tuned candidate."""
