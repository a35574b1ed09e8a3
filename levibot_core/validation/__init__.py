"""Validation: the chronological split, the proof that nothing looks ahead, comparisons and promotion gates."""
