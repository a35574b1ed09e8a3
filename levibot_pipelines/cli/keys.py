"""`levibot keys`: the keys that the inference API signs tokens with."""

import getpass
from datetime import timedelta
from typing import Annotated

import typer

from levibot_core.errors import CredentialError
from levibot_core.security.signing_keys import SigningKeysFile
from levibot_core.stores.audit_log import AuditLog
from levibot_pipelines.cli.output import JsonOption, print_json, print_notes, print_table
from levibot_serving.config import load_serving_settings

app = typer.Typer(help="The keys that tokens are signed with.", no_args_is_help=True)

_CLOCK_MARGIN = timedelta(minutes=1)


@app.command("rotate")
def rotate(
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Refuse tokens of the old key now: it may be known to others.")
    ] = False,
) -> None:
    """Sign with a new key; the old one is accepted until its last token has expired."""
    settings = load_serving_settings()
    if settings.signing_key is not None:
        raise CredentialError(
            "Expected the signing key in the home, but LEVIBOT_SIGNING_KEY holds it. Put its value into "
            "LEVIBOT_PREVIOUS_SIGNING_KEY, a new one into LEVIBOT_SIGNING_KEY, and start the API again."
        )
    overlap = timedelta(0) if at_once else timedelta(seconds=settings.longest_token_seconds) + _CLOCK_MARGIN
    key = SigningKeysFile(settings.folders.signing_keys).rotate(overlap)
    AuditLog(settings.folders.audit_log).append("key_rotation", getpass.getuser(), {"key": key.id, "at_once": at_once})
    ending = "at once" if at_once else f"after {overlap}"
    print_notes([f"Tokens are signed with the key {key.id} now; those of the keys before it are refused {ending}."])


@app.command("list")
def list_keys(as_json: JsonOption = False) -> None:
    """List the keys by their ids; never what they are."""
    keys = SigningKeysFile(load_serving_settings().folders.signing_keys).read()
    if as_json:
        print_json([key.model_dump(mode="json", exclude={"secret"}) for key in keys])
        return
    print_table(
        "Signing keys",
        ("key", "since, UTC", "accepted until, UTC"),
        [
            (
                key.id,
                f"{key.created_at:%Y-%m-%d %H:%M}",
                f"{key.accepted_until:%Y-%m-%d %H:%M}" if key.accepted_until else "",
            )
            for key in keys
        ],
    )
    if not keys:
        print_notes(["There is no key yet; the first sign-in makes one."])
