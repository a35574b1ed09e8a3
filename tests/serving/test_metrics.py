import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from levibot_serving.metrics import Metrics

WORKER = """
import sys
from levibot_serving.metrics import Metrics
metrics = Metrics()
for _ in range(int(sys.argv[1])):
    metrics.observe_request("/ai/predict", 200, 0.003)
    metrics.count_auth_failure("bad_token")
metrics.set_circuit_state("online_store", sys.argv[2])
if sys.argv[3:]:
    input()
    sys.stdout.write(metrics.render().decode())
else:
    sys.stdout.write("done\\n")
    sys.stdout.flush()
    input()
"""


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_everything_that_is_counted_is_exported_under_our_name() -> None:
    metrics = Metrics()
    metrics.observe_request("/ai/predict", None, 0.1)
    metrics.observe_stage("/ai/predict", "model", 0.0002)
    metrics.count_cache("forecast", hit=True)
    metrics.count_cache("forecast", hit=False)
    metrics.count_kept_features("the online store cannot be read")
    metrics.count_retry("model_registry")
    metrics.count_dependency_failure("model_registry")
    metrics.set_circuit_state("model_registry", "half-open")
    metrics.count_auth_failure("no_token")
    metrics.count_rate_limited("viewer")
    found = samples(metrics.render().decode())
    names = {name for name, _ in found}
    assert {name for name in names if not name.startswith(("levibot_", "process_"))} == set()
    assert found["levibot_request_duration_seconds_count", (("endpoint", "/ai/predict"), ("status", "none"))] == 1
    assert found["levibot_stage_duration_seconds_count", (("endpoint", "/ai/predict"), ("stage", "model"))] == 1
    for name, labels, value in (
        ("levibot_cache_hits_total", (("cache", "forecast"),), 1),
        ("levibot_cache_misses_total", (("cache", "forecast"),), 1),
        ("levibot_kept_features_served_total", (("reason", "the online store cannot be read"),), 1),
        ("levibot_retries_total", (("dependency", "model_registry"),), 1),
        ("levibot_dependency_failures_total", (("dependency", "model_registry"),), 1),
        ("levibot_circuit_state", (("dependency", "model_registry"),), 1),
        ("levibot_auth_failures_total", (("reason", "no_token"),), 1),
        ("levibot_rate_limited_total", (("role", "viewer"),), 1),
    ):
        assert found[name, labels] == value


def test_of_several_workers_whichever_is_scraped_tells_of_all(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def worker(*arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    with worker("3", "open") as one, worker("4", "closed", "render") as other:
        assert one.stdout is not None
        assert one.stdout.readline() == "done\n"
        text, _ = other.communicate("\n")
        one.communicate("\n")
    found = samples(text)
    assert found["levibot_request_duration_seconds_count", (("endpoint", "/ai/predict"), ("status", "200"))] == 7
    assert found["levibot_auth_failures_total", (("reason", "bad_token"),)] == 7
    assert found["levibot_circuit_state", (("dependency", "online_store"),)] == 2
