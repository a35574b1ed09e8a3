import time

import pytest

from levibot_core.models.latency import measure_latency


def test_only_calls_after_the_warm_up_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    ticks = iter(range(0, 10_000_000_000, 2_000_000))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks))
    measured = measure_latency(lambda: calls.append(None), warm_up=7, timed=20)
    assert len(calls) == 27
    assert measured == {"p50_ms": 2.0, "p90_ms": 2.0, "p95_ms": 2.0, "p99_ms": 2.0}


def test_percentiles_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([moment for call in range(100) for moment in (0, call * 1_000_000)])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(clock))
    measured = measure_latency(lambda: None, warm_up=0, timed=100)
    assert list(measured.values()) == pytest.approx([49.5, 89.1, 94.05, 98.01])
