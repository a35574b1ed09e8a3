from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest

from levibot_core.errors import LakeCorruptionError, MissingFeatureError
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.calibration import IdentityCalibrator
from levibot_core.models.predictors import LIGHTGBM
from levibot_core.monitoring.importance import ImportanceHistory, shap_importance
from levibot_core.monitoring.plots import shap_history_png, shap_png

SYMBOLS = ("BTC/USDT", "ETH/USDT")
FEATURES = ("momentum", "volatility", "noise")
IDENTITY = BundleIdentity(
    model_name="levibot-5m-h12",
    timeframe="5m",
    horizon_bars=12,
    symbols=SYMBOLS,
    feature_set="v1",
    features=FEATURES,
    snapshot_id="20260101T000000Z-0123456789ab",
    source_kind="recorded",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    seed=7,
)


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    generator = np.random.default_rng(2)
    columns = {name: generator.normal(size=301) for name in FEATURES}
    return pl.DataFrame({"symbol": [SYMBOLS[place % 2] for place in range(301)], **columns})


@pytest.fixture(scope="module")
def bundle(rows: pl.DataFrame) -> ModelBundle:
    """A model that learned that momentum decides, and volatility a little."""
    matrix = np.column_stack([rows.select(FEATURES).to_numpy(), np.arange(rows.height) % 2])
    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": 6, "num_threads": 1, "seed": 7, "verbose": -1, "deterministic": True},
        lightgbm.Dataset(matrix, matrix[:, 0] + 0.3 * matrix[:, 1] > 0, feature_name=[*FEATURES, "symbol_code"]),
        num_boost_round=12,
    )
    return ModelBundle.build(
        IDENTITY, LIGHTGBM, {"booster.txt": booster.model_to_string().encode()}, IdentityCalibrator()
    )


def test_what_decides_comes_first_and_shares_add_up(bundle: ModelBundle, rows: pl.DataFrame) -> None:
    found = shap_importance(bundle, rows, version=4, sample=200)
    assert found["feature"].to_list()[:2] == ["momentum", "volatility"]
    assert set(found["feature"]) == {*FEATURES, "symbol_code"}
    assert found["share"].sum() == pytest.approx(1.0)
    assert found["mean_abs_shap"].is_sorted(descending=True)
    assert found["version"].unique().to_list() == [4]
    assert found["snapshot_id"].unique().to_list() == [IDENTITY.snapshot_id]
    assert found["rows"].unique().to_list() == [200]
    assert shap_importance(bundle, rows, version=4, sample=200).equals(found)
    assert shap_importance(bundle, rows, version=4, sample=9_999)["rows"][0] == rows.height


def test_contributions_add_up_to_the_score_of_every_row(bundle: ModelBundle, rows: pl.DataFrame) -> None:
    matrix = np.column_stack([rows.select(FEATURES).to_numpy(), np.arange(rows.height) % 2])
    probabilities = bundle.predict_raw(matrix)
    scores = np.log(probabilities / (1.0 - probabilities))
    left = scores - bundle.contributions(matrix).sum(axis=1)
    assert left == pytest.approx(np.full(rows.height, left[0]), abs=1e-9)
    with pytest.raises(MissingFeatureError):
        bundle.contributions(np.where(matrix > 1.0, np.nan, matrix))


def test_nothing_moves_the_base_rate(rows: pl.DataFrame) -> None:
    found = shap_importance(base_rate_bundle(IDENTITY), rows, version=1, sample=50)
    assert (found["mean_abs_shap"] == 0.0).all()
    assert (found["share"] == 0.0).all()
    assert shap_png(found, "base rate").startswith(b"\x89PNG")


def test_the_history_grows_by_version_and_a_version_is_there_once(
    bundle: ModelBundle, rows: pl.DataFrame, tmp_path: Path
) -> None:
    history = ImportanceHistory(tmp_path / "reports" / "shap.parquet")
    assert history.read().is_empty()
    assert history.add([]).is_empty()
    assert not history.path.exists()
    second = shap_importance(bundle, rows, version=2, sample=50)
    history.add([second])
    grown = history.add([shap_importance(bundle, rows, version=7, sample=50), second])
    assert grown["version"].to_list() == [2] * 4 + [7] * 4
    assert history.read().equals(grown)


@pytest.mark.parametrize("content", [b"torn", b""])
def test_a_damaged_history_is_refused_and_left_alone(
    bundle: ModelBundle, rows: pl.DataFrame, tmp_path: Path, content: bytes
) -> None:
    history = ImportanceHistory(tmp_path / "shap.parquet")
    history.path.write_bytes(content)
    with pytest.raises(LakeCorruptionError, match="Delete it"):
        history.add([shap_importance(bundle, rows, version=2, sample=50)])
    assert history.path.read_bytes() == content


def test_pictures_of_one_version_and_of_many(bundle: ModelBundle, rows: pl.DataFrame) -> None:
    one = shap_importance(bundle, rows, version=2, sample=50)
    other = shap_importance(bundle, rows.tail(100), version=3, sample=50)
    both = pl.concat([one, other.filter(pl.col("feature") != "noise")])  # the later one knows a feature less
    for draw in (shap_png, shap_history_png):
        assert draw(one, "importance").startswith(b"\x89PNG")
        assert draw(both, "importance") != draw(one, "importance")
