import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from levibot_core.drift.evidently_report import write_evidently_report
from levibot_core.drift.plots import psi_png
from levibot_core.drift.psi import psi_table
from levibot_core.errors import HomeNotWritableError

FEATURES = ("calm", "moved", "constant")


def rows(shift: float, seed: int, count: int = 400) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "symbol": ["BTC/USDT"] * count,
            "calm": generator.normal(size=count),
            "moved": generator.normal(shift, size=count),
            "constant": np.zeros(count),
        }
    )


def test_evidently_finds_what_moved_and_its_report_stands_alone(tmp_path: Path) -> None:
    reference, current = rows(0.0, 0), rows(2.0, 1, count=150)
    path = tmp_path / "reports" / "drift.html"
    found = write_evidently_report(reference, current, FEATURES, path, rows=200, seed=3)
    assert found["drifted_columns"] == 1
    assert found["share"] == pytest.approx(1 / 3)
    assert set(found["columns"]) == set(FEATURES)
    assert found["columns"]["moved"] > 1.0 > found["columns"]["calm"]
    assert found["rows"] == {"reference": 200, "current": 150}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert "moved" in path.read_text("utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["drift.html"]

    assert write_evidently_report(reference, current, FEATURES, path, rows=200, seed=3) == found
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeNotWritableError):
        write_evidently_report(reference, current, FEATURES, tmp_path / "file" / "drift.html", rows=50, seed=3)


def test_the_picture_shows_the_worst_features() -> None:
    table = psi_table(rows(0.0, 0), rows(2.0, 1), FEATURES)
    picture = psi_png(table, "training against now")
    assert picture.startswith(b"\x89PNG")
    assert psi_png(table, "training against now") == picture
    assert psi_png(table, "training against now", top=1) != picture


def test_importing_drift_loads_neither_evidently_nor_pandas() -> None:
    script = (
        "import sys, levibot_core.drift.psi, levibot_core.drift.evidently_report\n"
        "assert not {'evidently', 'pandas', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
