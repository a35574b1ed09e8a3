"""How dbt models appear in Dagster."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator

from levibot_pipelines.defs.shared.automation import follows_inputs
from levibot_pipelines.defs.shared.metadata import OWNERS


class WarehouseTranslator(DagsterDbtTranslator):
    """Models go under `warehouse/`; sources keep the keys of the lake assets they are."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        """The spec of a model or source, with the platform's key, group, owner and kinds."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        if unique_id.startswith("source."):
            return spec
        return spec.replace_attributes(
            key=dg.AssetKey(["warehouse", spec.key.path[-1]]),
            group_name="warehouse",
            owners=OWNERS,
            kinds={"dbt", "duckdb"},
            automation_condition=follows_inputs,
        )
