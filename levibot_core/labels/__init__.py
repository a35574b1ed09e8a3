"""Labels: what a model is to forecast. Every label knows the instant at which it became known."""
