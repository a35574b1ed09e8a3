import struct
from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from levibot_core.models.block_bootstrap import BlockBootstrap
from levibot_core.models.candidate import CalibratedCandidate
from levibot_core.models.metric_intervals import reliability_band
from levibot_core.models.metrics import reliability_curve
from levibot_core.models.plots import importance_png, reliability_png


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def colours_in(png: bytes) -> set[str]:
    channels = (imread(BytesIO(png))[:, :, :3] * 255).round().astype(np.int64)
    return {f"#{colour:06x}" for colour in np.unique(channels @ [65536, 256, 1])}


def test_a_reliability_diagram_shows_curve_and_base_rate(calibrated: CalibratedCandidate) -> None:
    png = reliability_png(calibrated.report.reliability, calibrated.test_probabilities, 0.5, "planted, test rows")
    assert min(size_of(png)) > 500
    assert {"#2f6fab", "#d9822b"} <= colours_in(png)
    again = reliability_png(calibrated.report.reliability, calibrated.test_probabilities, 0.5, "planted, test rows")
    assert again == png


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_forecast_can_be_drawn(value: float) -> None:
    p, y = np.full(40, value), np.arange(40) % 2
    plain = reliability_png(reliability_curve(p, y), p, 0.5, "constant")
    band = reliability_band(p, y, BlockBootstrap(np.arange(40), 1, seed=0, resamples=50))
    banded = reliability_png(band.curve, p, 0.5, "constant", band)
    assert min(size_of(plain)) > 500
    assert size_of(banded) == size_of(plain)
    assert banded != plain


def test_importance_shows_the_highest_columns_only() -> None:
    shares = {f"feature_{place}": float(place) / 1000 for place in range(60)}
    twenty, ten = size_of(importance_png(shares, "model")), size_of(importance_png(shares, "model", top=10))
    assert twenty[1] > ten[1] > 100
    assert importance_png(dict(sorted(shares.items(), key=lambda item: -item[1])[:20]), "model") == importance_png(
        shares, "model"
    )
