"""Judging the candidate and moving the aliases."""
