"""Registered versions of a model, the aliases that say which one is served, and who moved them and why."""
