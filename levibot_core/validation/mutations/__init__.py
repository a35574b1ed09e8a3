"""Mistakes to plant in a pipeline, so that the guard can prove that it would see them.

Each is a pure function with one switch, wrong or right, in one stage; none is reachable from a training run.
"""
