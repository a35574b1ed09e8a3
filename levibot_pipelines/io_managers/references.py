"""Small references between assets, kept as JSON.

An asset returns a frozen pydantic model that names what it made (a snapshot id, a version, a path); the next asset
receives the same model, in the same process or another. No pickle, so a person can read what was passed. Frames
never pass this way: they belong in the lake or in a snapshot.
"""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel

from levibot_core.config import load_settings
from levibot_core.errors import ConfigurationError
from levibot_core.stores.files import write_text_atomically
from levibot_core.stores.paths import Home


class ReferenceIOManager(dg.ConfigurableIOManager):
    """Stores one JSON file per asset below `LEVIBOT_HOME/dagster/references`."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write the reference, replacing the one of an earlier run atomically."""
        if not isinstance(obj, BaseModel):
            raise TypeError(
                f"Expected {context.asset_key.to_user_string()} to return a pydantic model, was {type(obj)}."
            )
        write_text_atomically(self._path(context.asset_key), obj.model_dump_json(indent=2) + "\n")

    def load_input(self, context: dg.InputContext) -> BaseModel:
        """Read the reference as the type the receiving asset declares."""
        expected = context.dagster_type.typing_type
        path = self._path(context.asset_key)
        if not path.exists():
            raise ConfigurationError(
                f"Expected a result of {context.asset_key.to_user_string()} in this home, but there is none. "
                "Materialise that asset first."
            )
        reference: BaseModel = expected.model_validate_json(path.read_text("utf-8"))
        return reference

    @staticmethod
    def _path(key: dg.AssetKey) -> Path:
        return Home.at(load_settings().home).dagster.joinpath("references", *key.path).with_suffix(".json")
