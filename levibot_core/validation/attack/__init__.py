"""The attack on a training pipeline: change what was not known yet, and demand that nothing known before notices."""
