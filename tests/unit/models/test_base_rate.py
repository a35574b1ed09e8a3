import json
from pathlib import Path

import numpy as np
import pytest

from levibot_core.errors import BundleError
from levibot_core.models.base_rate import base_rate_bundle, fit_base_rate
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.predictors import read_base_rate


def test_the_base_rate_is_laplaces_estimate() -> None:
    assert fit_base_rate(np.array([1, 1, 0], dtype=np.int8)) == 3 / 5
    assert fit_base_rate(np.ones(200, dtype=np.int8)) == 201 / 202
    assert fit_base_rate(np.empty(0)) == 0.5


def test_a_new_home_answers_one_half_for_every_row(identity: BundleIdentity, tmp_path: Path) -> None:
    base_rate_bundle(identity).save(tmp_path / "bundle")
    bundle = ModelBundle.load(tmp_path / "bundle")
    assert bundle.manifest.family == "base_rate"
    assert bundle.manifest.calibration == "none"
    assert bundle.predict(np.full((3, 4), np.nan)).tolist() == [0.5, 0.5, 0.5]


def test_with_labels_it_answers_their_rate(identity: BundleIdentity) -> None:
    bundle = base_rate_bundle(identity, np.array([1, 0, 0, 0]))
    assert bundle.predict(bundle.matrix_row("BTC/USDT", dict.fromkeys(identity.features, 1.0))).tolist() == [2 / 6]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"probability": 1.0}', '{"probability": "0.5"}', "0.5"])
def test_a_base_rate_that_is_no_probability_is_refused(content: str) -> None:
    with pytest.raises(BundleError):
        read_base_rate({"base_rate.json": content.encode()}, ())


def test_a_base_rate_survives_json_bit_for_bit(identity: BundleIdentity, tmp_path: Path) -> None:
    base_rate_bundle(identity, np.array([1, 1, 0, 1, 0])).save(tmp_path / "bundle")
    assert json.loads((tmp_path / "bundle" / "base_rate.json").read_text())["probability"] == 4 / 7
