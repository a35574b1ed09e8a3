"""A grid of configurations from texts such as `long_threshold=0.52,0.55`."""

from collections.abc import Sequence
from itertools import product
from typing import Final

from pydantic import ValidationError

from levibot_core.backtest.simulation_parameters import BacktestParameters
from levibot_core.errors import ConfigurationError

MOST_CONFIGURATIONS: Final = 10_000


def grid(base: BacktestParameters, varied: Sequence[str]) -> list[BacktestParameters]:
    """Every combination of the values, the last parameter changing fastest.

    Args:
        base: What is not varied.
        varied: `name=value,value` of a field of `BacktestParameters` other than `sizing`, or of `SizingRule` as
            `sizing.name=value,value`; `none` is no limit.

    Raises:
        ConfigurationError: a text is not of that form, a name is unknown, a combination is not valid, or there are
            more than 10,000.
    """
    axes = [_axis(text) for text in varied]
    names = [name for name, _ in axes]
    combinations = list(product(*(values for _, values in axes)))
    if len(combinations) > MOST_CONFIGURATIONS:
        raise ConfigurationError(
            f"Expected at most {MOST_CONFIGURATIONS:,} configurations, was {len(combinations):,}. Vary fewer values."
        )
    return [_changed(base, dict(zip(names, values, strict=True))) for values in combinations]


def _axis(text: str) -> tuple[str, list[str | None]]:
    name, equals, values = text.partition("=")
    if not equals or not name or not all(values.split(",")):
        raise ConfigurationError(f"Expected name=value,value to vary, such as long_threshold=0.52,0.55, was {text!r}.")
    return name.strip(), [None if value.strip() == "none" else value.strip() for value in values.split(",")]


def _changed(base: BacktestParameters, changes: dict[str, str | None]) -> BacktestParameters:
    fields = base.model_dump()
    for name, value in changes.items():
        outer, dot, inner = name.partition(".")
        if dot and outer == "sizing":
            fields["sizing"] = (fields["sizing"] or {}) | {inner: value}
        else:
            fields[name] = value
    try:
        return BacktestParameters.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ConfigurationError(
            f"Expected parameters of a backtest, was {changes}: {f'{where}: ' if where else ''}{problem['msg']}. "
            f"They are {', '.join(BacktestParameters.model_fields)}."
        ) from error
