"""The platform's side of each comparison, one module per measured process."""
