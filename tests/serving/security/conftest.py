import time

import pytest


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The wall clock, which stands still one second after a minute began unless a test moves it."""
    now = [time.time() // 60 * 60 + 1.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now
