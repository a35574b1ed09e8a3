"""The dbt models as assets: staging views and marts over the lake."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets

from levibot_pipelines.defs.warehouse.translator import WarehouseTranslator
from levibot_pipelines.resources.warehouse import dbt_variables, manifest_path
from levibot_pipelines.workspace import Workspace


@dbt_assets(
    manifest=manifest_path(),
    name="warehouse",
    dagster_dbt_translator=WarehouseTranslator(),
    # DuckDB lets one process hold the file.
    pool="duckdb_writer",
)
def warehouse(
    context: dg.AssetExecutionContext, dbt: DbtCliResource, workspace: dg.ResourceParam[Workspace]
) -> Iterator[Any]:
    """Build every selected model and run its tests."""
    arguments = ["build", "--vars", dbt_variables(workspace.home)]
    # One folder, where a new one for every run would grow without end and dbt would parse the project every time.
    yield from dbt.cli(arguments, context=context, target_path=workspace.home.dbt_artifacts).stream()
