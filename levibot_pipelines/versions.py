"""Opening the registered versions of a home without loading MLflow, where that can be done."""

from levibot_core.registry.alias_database import AliasDatabase, is_known
from levibot_core.registry.versions import RegisteredVersions
from levibot_core.stores.paths import Home


def open_versions(home: Home, model_name: str) -> RegisteredVersions:
    """The registered versions of a home: from the database itself where that is safe, else through MLflow."""
    if is_known(home.mlflow_database):
        return AliasDatabase(home, model_name)
    from levibot_pipelines.registry import ModelRegistry

    return ModelRegistry(home, model_name)
