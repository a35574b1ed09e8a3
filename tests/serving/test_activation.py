"""Changing the champion over the API, on a real registry."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from filelock import FileLock

from levibot_core.models.bundle import ModelBundle
from levibot_core.registry.champions import changes
from levibot_core.registry.versions import RegisteredVersions
from levibot_core.stores.audit_log import AuditLog
from levibot_core.stores.paths import Home
from levibot_serving import activation
from levibot_serving.config import ServingSettings
from levibot_serving.main import create_app
from levibot_serving.registered_versions import RegistryVersions, served_versions
from levibot_serving.registry import MlflowRegistry

Bundles = Callable[..., ModelBundle]
ErrorOf = Callable[[httpx.Response], dict[str, Any]]

# MLflow 3.17 maps its tables with what SQLAlchemy 2.1 deprecates.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")]

PASSED = [{"gate": "latency", "passed": True, "found": "p95 0.2 ms", "required": "at most 80 ms"}]
FAILED = [{"gate": "beats_champion", "passed": False, "found": "log loss +0.001", "required": "below"}]


def judged(gates: list[dict[str, object]]) -> dict[str, str]:
    return {"tradable": "true", "reasons": "[]", "gates": json.dumps(gates), "metrics": '{"auc": 0.53}'}


@pytest.fixture
async def client(settings: ServingSettings, visitors: Any) -> Any:
    """An administrator's client of the application with all that it opens, and no server."""
    visitors.move_in(settings.folders)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport, headers = httpx.ASGITransport(app=app, raise_app_exceptions=False), visitors.headers("admin")
        async with httpx.AsyncClient(transport=transport, base_url="http://levibot", headers=headers) as client:
            yield client


@pytest.fixture
def versions(registry: Any, lightgbm_bundle: Bundles) -> list[int]:
    """Three that may become champion, and one that may not."""
    gates = (PASSED, PASSED, PASSED, FAILED)
    return [
        registry.register(lightgbm_bundle(seed=seed), judged(found), promote=False) for seed, found in enumerate(gates)
    ]


async def test_a_version_is_activated_and_rolled_back_and_every_change_is_recorded(
    client: httpx.AsyncClient, settings: ServingSettings, versions: list[int]
) -> None:
    for number in versions[:3]:
        changed = await client.post("/ai/models/activate", json={"version": number, "reason": "better"})
        assert (changed.status_code, changed.json()["champion"]) == (200, number), changed.text
    again = (await client.post("/ai/models/activate", json={"version": 3, "reason": "better"})).json()
    assert (again["changed"], again["message"]) == (False, "Version 3 is champion already.")
    back = (await client.post("/ai/models/rollback", json={"reason": "it loses money"})).json()
    assert (back["champion"], back["replaced"], back["changed"]) == (2, 3, True)
    listed = (await client.get("/ai/models/list")).json()
    assert (listed["champion"], listed["previous"], listed["challenger"]) == (2, 1, None)
    assert [(item["version"], item["gates_passed"], item["tags"].get("state")) for item in listed["versions"]] == [
        (4, False, None),
        (3, True, "rolled_back"),
        (2, True, "promoted"),
        (1, True, "promoted"),
    ]
    assert listed["versions"][0]["gates"][0]["gate"] == "beats_champion"
    assert listed["versions"][0]["metrics"] == {"auc": 0.53}
    registry = MlflowRegistry(settings.tracking_uri, 2)
    recorded = changes(served_versions(settings, registry))
    assert [(change.event, change.from_version, change.to_version, change.forced) for change in recorded] == [
        ("promotion", None, 1, False),
        ("promotion", 1, 2, False),
        ("promotion", 2, 3, False),
        ("rollback", 3, 2, False),
    ]
    assert recorded[-1].reason == "it loses money"
    assert AuditLog(settings.folders.audit_log).verify().intact


@pytest.mark.usefixtures("versions")
async def test_a_version_that_failed_its_gates_needs_force_which_is_recorded(
    client: httpx.AsyncClient, settings: ServingSettings, error_of: ErrorOf
) -> None:
    asked = {"version": 4, "reason": "a drill"}
    refused = await client.post("/ai/models/activate", json=asked)
    error = error_of(refused)
    assert (refused.status_code, error["code"]) == (409, "gates_not_passed")
    assert error["details"]["gates"][0]["found"] == "log loss +0.001"
    assert not settings.folders.audit_log.exists()
    forced = (await client.post("/ai/models/activate", json={**asked, "force": True})).json()
    assert (forced["champion"], forced["forced"]) == (4, True)
    (record,) = AuditLog(settings.folders.audit_log).read()
    assert (record.event, record.details["forced"], record.details["reason"]) == ("promotion", True, "a drill")


async def test_what_cannot_be_done_is_refused_and_nothing_moves(
    client: httpx.AsyncClient, settings: ServingSettings, registry: Any, versions: list[int], error_of: ErrorOf
) -> None:
    pickles = registry.files(versions[0])
    shutil.rmtree(pickles)
    attempts = [
        ("/ai/models/activate", {"version": 9, "reason": "better"}, 404, "unknown_version"),
        ("/ai/models/activate", {"version": 1, "reason": "only pickles", "force": True}, 409, "not_servable"),
        ("/ai/models/activate", {"version": 1}, 422, "invalid_request"),
        ("/ai/models/activate", {"version": 1, "reason": "x"}, 422, "invalid_request"),
        ("/ai/models/rollback", {"reason": "no champion"}, 409, "nothing_to_roll_back_to"),
        ("/ai/models/rollback", {}, 422, "invalid_request"),
    ]
    for path, body, status, code in attempts:
        response = await client.post(path, json=body)
        assert (response.status_code, error_of(response)["code"]) == (status, code), response.text
    assert served_versions(settings, MlflowRegistry(settings.tracking_uri, 2)).by_alias("champion") is None
    assert not settings.folders.audit_log.exists()


@pytest.mark.usefixtures("versions")
async def test_two_do_not_move_aliases_at_once(
    client: httpx.AsyncClient, home: Home, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation, "_PATIENCE_S", 0.05)
    with FileLock(home.alias_lock):
        response = await client.post("/ai/models/activate", json={"version": 1, "reason": "better"})
    assert (response.status_code, error_of(response)["code"]) == (409, "busy")


async def test_without_a_registry_nothing_is_listed_and_it_says_what_to_do(
    client: httpx.AsyncClient, error_of: ErrorOf
) -> None:
    for response in (
        await client.get("/ai/models/list"),
        await client.post("/ai/models/activate", json={"version": 1, "reason": "better"}),
        await client.post("/ai/models/rollback", json={"reason": "worse"}),
    ):
        assert (response.status_code, error_of(response)["code"]) == (503, "unavailable")
        assert "make demo" in error_of(response)["message"]


def test_both_ways_to_the_registry_list_the_same(registry: Any, settings: ServingSettings, versions: list[int]) -> None:
    mlflow = MlflowRegistry(settings.tracking_uri, 2)
    through: RegisteredVersions = RegistryVersions(mlflow, settings.folders, settings.model_name)
    direct = served_versions(settings, mlflow)
    registry.promote(versions[1])
    through.point("challenger", versions[2])
    through.annotate(versions[2], {"state": "promoted"})
    key = {"run_id": ""}  # MLflow tells of no run as nothing, its database as None.
    assert [replace(item, **key) for item in through.versions()] == [replace(item, **key) for item in direct.versions()]
    through.point("challenger", None)
    assert direct.by_alias("challenger") is None
