import sys
import types
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from levibot_pipelines.cli.lazy import lazy_group


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[typer.Typer]:
    """A group with a command, a group of its own, and a command whose module is broken."""
    module = types.ModuleType("levibot_test_commands")
    inner = typer.Typer()

    @inner.command("one")
    def one(name: str, loud: bool = False) -> None:
        """Say one."""
        typer.echo(f"one {name}{'!' * loud}")

    @inner.command("two")
    def two() -> None:
        """Say two."""

    def plain(number: int = 3) -> None:
        """Say a number."""
        typer.echo(f"plain {number}")

    module.inner, module.plain = inner, plain  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "levibot_test_commands", module)
    places = {"plain": "levibot_test_commands:plain", "inner": "levibot_test_commands:inner"}
    group = typer.Typer(cls=lazy_group(places), no_args_is_help=True)

    @group.callback()
    def about() -> None:
        """What it is about."""

    yield group


def test_commands_take_their_arguments_and_groups_their_commands(app: typer.Typer) -> None:
    assert CliRunner().invoke(app, ["plain", "--number", "4"]).stdout == "plain 4\n"
    assert CliRunner().invoke(app, ["inner", "one", "ada", "--loud"]).stdout == "one ada!\n"


def test_help_names_all_of_them(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout

    assert [text for text in ("What it is about", "plain", "Say a number", "inner") if text not in shown] == []


def test_a_misspelt_name_is_answered_with_the_nearest_one(app: typer.Typer) -> None:
    answer = CliRunner().invoke(app, ["plian"])

    assert answer.exit_code == 2
    assert "plain" in answer.output
    assert "one" not in answer.stdout


def test_only_what_is_called_is_imported() -> None:
    places = {"here": "levibot_pipelines.cli.audit:verify", "broken": "levibot_no_such_module:app"}
    app = typer.Typer(cls=lazy_group(places))
    app.callback()(lambda: None)

    assert CliRunner().invoke(app, ["here", "--help"]).exit_code == 0
    assert isinstance(CliRunner().invoke(app, ["broken"]).exception, ModuleNotFoundError)
