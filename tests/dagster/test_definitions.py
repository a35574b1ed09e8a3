import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from levibot_pipelines.runner import VERDICT_STEPS

_ROOT = Path(__file__).resolve().parents[2]
_STAGES = {
    "ingestion",
    "warehouse",
    "feature_store",
    "training",
    "calibration",
    "model_cards",
    "backtest",
    "drift",
    "promotion",
    "monitoring",
    "certificate",
}


@pytest.fixture(scope="session")
def specs(definitions: dg.Definitions) -> list[dg.AssetSpec]:
    return list(definitions.resolve_all_asset_specs())


def test_every_stage_is_a_group_and_a_folder(specs: list[dg.AssetSpec]) -> None:
    folders = {path.name for path in (_ROOT / "levibot_pipelines" / "defs").iterdir() if (path / "assets.py").exists()}

    assert {spec.group_name for spec in specs} == folders == _STAGES


def test_the_group_is_the_first_part_of_every_key(specs: list[dg.AssetSpec]) -> None:
    assert [spec.key for spec in specs if spec.key.path[0] != spec.group_name] == []


def test_every_asset_says_what_it_is_of_what_kind_and_whose(specs: list[dg.AssetSpec]) -> None:
    assert [spec.key for spec in specs if not spec.description] == []
    assert [spec.key for spec in specs if not 1 <= len(spec.kinds) <= 3] == []
    assert [spec.key for spec in specs if not spec.owners] == []


def test_the_lifecycle_flows_from_candles_to_the_champion(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()

    upstream = graph.get_ancestor_asset_keys(dg.AssetKey(["promotion", "champion"]))

    assert {key.path[0] for key in upstream} >= _STAGES - {
        *("warehouse", "drift", "promotion", "monitoring", "certificate")
    }


def test_quality_rules_and_gates_block(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    blocking = {key for key in graph.asset_check_keys if graph.get(key).blocking}

    assert {key.name for key in blocking if key.asset_key == dg.AssetKey(["ingestion", "candles"])} == {
        "schema",
        "unique_monotonic",
        "on_grid",
        "ohlc_consistency",
        "gaps",
        "unclosed",
        "zero_volume_runs",
        "outliers",
        "staleness",
    }
    assert {key.name for key in blocking if key.asset_key == dg.AssetKey(["promotion", "challenger"])} == {
        "leak_check",
        "calibration",
        "latency",
        "beats_champion",
        "beats_base_rate",
        "rebuild",
        "provenance",
    }


def test_nobody_waits_for_monitoring(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    monitoring = {key for key in graph.get_all_asset_keys() if key.path[0] == "monitoring"}
    lifecycle = definitions.resolve_job_def("lifecycle").asset_layer

    assert {key.path[1] for key in monitoring} == {
        *("feature_psi", "feature_staleness", "feature_correlation", "shap_importance", "parity")
    }
    assert monitoring.isdisjoint(lifecycle.selected_asset_keys)
    assert [key for key in monitoring if graph.get(key).child_keys] == []
    assert [key for key in graph.asset_check_keys if key.asset_key in monitoring and graph.get(key).blocking] == []


def test_the_champion_is_watched_before_it_is_compared_and_no_verdict_waits_for_either(
    definitions: dg.Definitions,
) -> None:
    graph = definitions.resolve_asset_graph()
    watch, shadow = (dg.AssetKey(["promotion", name]) for name in ("champion_watch", "shadow"))

    assert definitions.resolve_job_def("shadow").asset_layer.selected_asset_keys == {watch, shadow}
    assert watch in graph.get(shadow).parent_keys
    for job in ("lifecycle", "retrain"):
        assert {watch, shadow}.isdisjoint(definitions.resolve_job_def(job).asset_layer.selected_asset_keys)
    compared = {key.name: graph.get(key).blocking for key in graph.asset_check_keys if key.asset_key in (watch, shadow)}
    assert compared == {"champion_no_worse": True, "challenger_no_worse": True}


def test_the_guard_and_the_certificate_have_jobs_of_their_own_and_checks_that_fail_them(
    definitions: dg.Definitions,
) -> None:
    graph = definitions.resolve_asset_graph()
    guard, certificate = dg.AssetKey(["promotion", "regression_guard"]), dg.AssetKey(["certificate", "report"])

    for job, asset, check in (
        ("guard", guard, "no_regression"),
        ("certificate", certificate, "few_false_promotions"),
    ):
        resolved = definitions.resolve_job_def(job)
        assert resolved.asset_layer.selected_asset_keys == {asset}
        assert f"{asset.to_python_identifier()}_{check}" in {node.name for node in resolved.graph.nodes}
        assert graph.get(dg.AssetCheckKey(asset, check)).blocking
    for job in ("lifecycle", "retrain"):
        assert {guard, certificate}.isdisjoint(definitions.resolve_job_def(job).asset_layer.selected_asset_keys)
    assert graph.get(dg.AssetCheckKey(dg.AssetKey(["promotion", "champion"]), "change_is_recorded")).blocking


def test_steps_that_are_verdicts_are_steps(definitions: dg.Definitions) -> None:
    steps = {node.name for job in ("lifecycle", "shadow") for node in definitions.resolve_job_def(job).graph.nodes}

    assert steps >= VERDICT_STEPS


@pytest.mark.parametrize(
    "job", ["lifecycle", "ingest", "retrain", "monitoring", "watch", "shadow", "guard", "certificate"]
)
def test_jobs_resolve(definitions: dg.Definitions, job: str) -> None:
    assert definitions.resolve_job_def(job).name == job


def test_importing_the_library_mlflow_is_not_shadowed_by_the_folder() -> None:
    code = "import mlflow, sys; print(mlflow.__file__)"

    found = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True)

    assert "site-packages" in found.stdout
    assert not (_ROOT / "mlflow" / "__init__.py").exists()
