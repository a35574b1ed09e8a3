"""The model card of the candidate."""
