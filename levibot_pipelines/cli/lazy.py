"""Groups of commands that are imported when they are called: a rollback does not load what trains and charts."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_group


class LazyGroup(TyperGroup):
    """A group that knows the names of its commands, and imports one when somebody asks for it."""

    places: ClassVar[Mapping[str, str]] = {}
    """Name of each command to where it is, `module:function`, or `module:app` where it is a group itself."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order in which help shows them."""
        del ctx  # Of the signature; the names do not depend on it.
        return list(self.places)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, imported now; None where there is none."""
        # A name that is misspelt is compared with those there are, which takes all of them.
        for name in [cmd_name] if cmd_name in self.places else self.places:
            if name not in self.commands:
                self.commands[name] = _imported(name, self.places[name])
        return super().get_command(ctx, cmd_name)


def lazy_group(places: Mapping[str, str]) -> type[LazyGroup]:
    """The class of a group with those commands, for `typer.Typer(cls=…)`."""
    return type("LazyCommands", (LazyGroup,), {"places": dict(places)})


def _imported(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found, holder = getattr(import_module(module), attribute), typer.Typer()
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    return get_group(holder).commands[name]
