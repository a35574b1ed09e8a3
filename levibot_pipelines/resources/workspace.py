"""The workspace as a Dagster resource: settings come from the environment, assets receive a `Workspace`."""

import dagster as dg

from levibot_core.config import load_settings
from levibot_pipelines.workspace import Workspace


class WorkspaceResource(dg.ConfigurableResource[Workspace]):
    """Opens the home named by `LEVIBOT_HOME` once per run."""

    def create_resource(self, context: dg.InitResourceContext) -> Workspace:
        """Open the workspace with the settings of the environment."""
        del context  # Required by Dagster's hook signature; the settings hold all that is needed.
        return Workspace.open(load_settings())
