"""Features: one registry, window-exact kernels, and the batch that applies them. Stores and labels are elsewhere."""
