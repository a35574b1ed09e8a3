"""Real bundles, a real MLflow registry and a real server, kept as cheap as they can be."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from levibot_core.errors import RegistryError
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.calibration import IdentityCalibrator
from levibot_core.models.predictors import LIGHTGBM
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_serving.cache import ModelCache
from levibot_serving.config import ServingSettings, load_serving_settings
from levibot_serving.dagster_client import LAUNCH
from levibot_serving.deps import Services
from levibot_serving.main import create_app
from levibot_serving.model_store import ModelStore
from levibot_serving.operations import build_operations
from levibot_serving.parity import ParityFigures
from levibot_serving.registry import ModelRecord
from levibot_serving.served import ServedModel
from levibot_serving.vector_log import VectorLog

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL = "levibot-5m-h12"
FEATURES = ("return_1", "realized_volatility_48", "rsi_14")
IDENTITY = BundleIdentity(
    model_name=MODEL,
    timeframe="5m",
    horizon_bars=12,
    symbols=("BTC/USDT", "ETH/USDT"),
    feature_set="v1",
    features=FEATURES,
    snapshot_id="20260101T000000Z-0123456789ab",
    source_kind="recorded",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    seed=7,
)
TRADABLE = {"tradable": "true", "reasons": "[]"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _registry_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the adapter sets for its process does not outlive a test."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "2" if name.endswith("TIMEOUT") else "0")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch, visitors: Any) -> None:
    """Passwords are checked as elsewhere, with less work: those of tests open nothing."""
    monkeypatch.setattr("levibot_serving.security.sign_in.PasswordHashes", lambda: visitors.hashes)


@pytest.fixture(scope="session")
def bundle_identity() -> BundleIdentity:
    return IDENTITY


@pytest.fixture(scope="session")
def booster_text() -> str:
    """A few trees that learned that a positive last return is followed by a rise."""
    return train_booster(FEATURES)


@pytest.fixture(scope="session")
def bundle_on() -> Callable[..., ModelBundle]:
    """Makes a bundle on features of one's choice."""

    def make(names: tuple[str, ...], **changes: object) -> ModelBundle:
        identity = IDENTITY.model_copy(update={"features": names, **changes})
        return ModelBundle.build(
            identity, LIGHTGBM, {"booster.txt": train_booster(names).encode()}, IdentityCalibrator()
        )

    return make


def train_booster(names: tuple[str, ...]) -> str:
    import lightgbm

    generator = np.random.default_rng(7)
    rows = np.column_stack([generator.normal(size=(400, len(names))), generator.integers(0, 2, 400)])
    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": 4, "num_threads": 1, "seed": 7, "verbose": -1, "deterministic": True},
        lightgbm.Dataset(rows, rows[:, 0] > 0, feature_name=[*names, "symbol_code"], categorical_feature=[len(names)]),
        num_boost_round=10,
    )
    return booster.model_to_string()


@pytest.fixture(scope="session")
def lightgbm_bundle(booster_text: str) -> Callable[..., ModelBundle]:
    """Makes a bundle; keyword arguments replace parts of its identity."""

    def make(**changes: object) -> ModelBundle:
        identity = IDENTITY.model_copy(update=changes)
        return ModelBundle.build(identity, LIGHTGBM, {"booster.txt": booster_text.encode()}, IdentityCalibrator())

    return make


@pytest.fixture(scope="session")
def base_rate() -> ModelBundle:
    return base_rate_bundle(IDENTITY)


@pytest.fixture(scope="session")
def vector() -> Callable[..., FeatureVector]:
    """Makes a fresh, whole feature vector; keyword arguments replace parts of it."""

    def make(**changes: object) -> FeatureVector:
        now_ms = time.time_ns() // 1_000_000
        values = {"return_1": 1.5, "realized_volatility_48": 0.02, "rsi_14": 0.3, "not_needed": 9.0}
        fresh = FeatureVector("BTC/USDT", now_ms - 301_000, now_ms - 1_000, "v1", "recorded", 100.0, values)
        return replace(fresh, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def served_as() -> Callable[[ModelBundle], ServedModel]:
    """Makes a tradable served model of a bundle, without a registry."""

    def make(bundle: ModelBundle) -> ServedModel:
        record = ModelRecord(name=MODEL, version=1, created_ms=1, source="m-1", aliases=("champion",), tags={})
        return ServedModel(bundle, record, True, (), loaded_at_ms=0, from_cache=False)

    return make


class StubRegistry:
    """A registry in memory: one champion, or a failure."""

    def __init__(self) -> None:
        self.record: ModelRecord | None = None
        self.bundle: ModelBundle | None = None
        self.failure: str | None = None
        self.downloads = 0

    def hold(self, bundle: ModelBundle, version: int = 1, tags: Mapping[str, str] = TRADABLE) -> None:
        self.bundle = bundle
        self.record = ModelRecord(
            name=MODEL,
            version=version,
            created_ms=version,
            source=f"m-{version}",
            aliases=("champion",),
            tags=dict(tags),
        )

    def champion(self, name: str) -> ModelRecord | None:
        assert name == MODEL
        if self.failure is not None:
            raise RegistryError(self.failure)
        return self.record

    def challenger(self, name: str) -> ModelRecord | None:
        assert name == MODEL
        return None

    def record_of(self, name: str, version: int) -> ModelRecord:
        raise RegistryError(f"no version {version} of {name}")

    def download(self, record: ModelRecord, folder: Path) -> None:
        assert record == self.record
        assert self.bundle is not None
        self.downloads += 1
        self.bundle.save(folder / "artifacts" / "bundle")
        (folder / "python_model.pkl").write_bytes(b"never read")


@pytest.fixture
def stub_registry() -> StubRegistry:
    return StubRegistry()


@pytest.fixture
def model_store(stub_registry: StubRegistry, settings: ServingSettings) -> Callable[[], ModelStore]:
    """Makes stores over the same registry and the same local cache; each is a new process, so to speak."""

    def make() -> ModelStore:
        return ModelStore(stub_registry, ModelCache(settings.folders.root / "serving"), MODEL, poll_seconds=60)

    return make


@pytest.fixture
def api(
    settings: ServingSettings,
    model_store: Callable[[], ModelStore],
    features: SqliteOnlineStore,
    stub_registry: StubRegistry,
    visitors: Any,
) -> Callable[..., httpx.AsyncClient]:
    """A client of the application, without a server: what the registry holds has been looked at once.

    It is signed in as a viewer; `role` says as whom else, or as nobody.
    """

    def make(role: str | None = "viewer", **changes: object) -> httpx.AsyncClient:
        visitors.move_in(settings.folders)
        app = create_app(settings)
        store = model_store()
        store.refresh()
        vector_log = VectorLog(settings.folders, settings.served_log_days)
        parity = ParityFigures(settings.folders.parity_report)
        operations = build_operations(settings, store, features, stub_registry)
        services = Services(settings, store, features, app.state.metrics, vector_log, parity, operations)
        app.state.services = replace(services, **changes)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://levibot", headers=visitors.headers(role))

    return make


@dataclass(frozen=True)
class Registry:
    """The MLflow registry of one home, as the promotion pipeline would fill it."""

    home: Home
    client: "MlflowClient"

    @property
    def database(self) -> Path:
        return self.home.mlflow / "mlflow.db"

    def register(self, bundle: ModelBundle, tags: Mapping[str, str] = TRADABLE, *, promote: bool = True) -> int:
        """Register a version whose files lie as a pyfunc model's do."""
        model = self.home.mlflow / "models" / f"m-{time.time_ns()}"
        bundle.save(model / "artifacts" / "bundle")
        (model / "MLmodel").write_text("flavors: {}\n")
        (model / "python_model.pkl").write_bytes(b"never read")
        version = self.client.create_model_version(MODEL, source=str(model), tags=dict(tags))
        if promote:
            self.promote(int(version.version))
        return int(version.version)

    def promote(self, version: int) -> None:
        self.client.set_registered_model_alias(MODEL, "champion", str(version))

    def files(self, version: int) -> Path:
        """The bundle that the registry holds for a version."""
        source = self.client.get_model_version(MODEL, str(version)).source
        return Path(str(source)) / "artifacts" / "bundle"


@pytest.fixture
def registry(registry_home: Home) -> Registry:
    from mlflow import MlflowClient

    client = MlflowClient(registry_home.tracking_uri, registry_home.tracking_uri)
    client.create_registered_model(MODEL)
    return Registry(registry_home, client)


@pytest.fixture
def settings(home: Home) -> ServingSettings:
    return load_serving_settings(home=home.root, registry_poll_seconds=0.2)


@pytest.fixture
def features(home: Home) -> Iterator[SqliteOnlineStore]:
    store = SqliteOnlineStore(home.online_store)
    yield store
    store.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until something is true, and fails when it never becomes so."""

    def wait(condition: Callable[[], bool], seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"still not true after {seconds} s")
            time.sleep(0.02)

    return wait


@pytest.fixture
def error_of() -> Callable[[httpx.Response], dict[str, object]]:
    """The error of a response, after checking that it has the one shape there is."""

    def read(response: httpx.Response) -> dict[str, object]:
        assert response.status_code >= 400
        body = json.loads(response.content)
        assert set(body) == {"error"}
        assert set(body["error"]) == {"code", "message", "request_id", "details"}
        assert body["error"]["request_id"] == response.headers["x-request-id"]
        error: dict[str, object] = body["error"]
        return error

    return read


class StubDagster(ThreadingHTTPServer):
    """Queues what it is asked for, remembers it, and can be told to answer something else."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.launched: list[dict[str, Any]] = []
        self.answer: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: StubDagster

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps(self.server.answer or {"data": self._data(asked)}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _data(self, asked: dict[str, Any]) -> dict[str, Any]:
        launched = self.server.launched
        if asked["query"] == LAUNCH:
            launched.append(asked["variables"]["parameters"])
            return {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": f"run-{len(launched)}"}}}
        (tag,) = asked["variables"]["filter"]["tags"]
        found = [
            {"runId": f"run-{number}"}
            for number, parameters in enumerate(launched, start=1)
            if tag in parameters["executionMetadata"]["tags"]
        ]
        return {"runsOrError": {"__typename": "Runs", "results": found}}

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def dagster() -> Iterator[StubDagster]:
    with StubDagster() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
