"""All mistakes there are to plant."""

from collections.abc import Sequence

from levibot_core.validation.attack.pipeline import Pipeline
from levibot_core.validation.mutations import features, fitting, rows, trading
from levibot_core.validation.mutations.mutation import Mutation

MUTATIONS: Sequence[Mutation] = (*features.MUTATIONS, *rows.MUTATIONS, *fitting.MUTATIONS, *trading.MUTATIONS)
"""In order of stage."""


def with_every_step_right(pipeline: Pipeline) -> Pipeline:
    """The pipeline with the right form of every step that has a wrong one: no check may object to it."""
    for mutation in MUTATIONS:
        pipeline = mutation.plant(pipeline, False)
    return pipeline
