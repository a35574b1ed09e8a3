"""The one entry point of the Dagster code location.

Everything in `defs/` is found by itself; this module adds what holds for the whole location: resources, the executor
and the automation sensor. No asset, check, job, schedule or sensor is implemented here.
"""

import warnings
from pathlib import Path

import dagster as dg

from levibot_pipelines.io_managers.references import ReferenceIOManager
from levibot_pipelines.resources.warehouse import dbt_resource
from levibot_pipelines.resources.workspace import WorkspaceResource

# Backfill policies and partitioned checks are marked beta and preview; both are used on purpose and covered by tests.
# Remove when Dagster declares them stable.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)


@dg.definitions
def defs() -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors of the platform, wired to one home."""
    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
        dg.Definitions(
            resources={
                "workspace": WorkspaceResource(),
                "references": ReferenceIOManager(),
                "dbt": dbt_resource(),
            },
            # One process per run: stages follow one another anyway, share what they loaded, and never compete for the
            # warehouse file or for two cores. Spread over processes or machines when stages become independent.
            executor=dg.in_process_executor,
            sensors=[
                dg.AutomationConditionSensorDefinition(
                    "automation",
                    target=dg.AssetSelection.all(),
                    minimum_interval_seconds=60,
                )
            ],
        ),
    )
