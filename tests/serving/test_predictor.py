import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import MissingFeatureError, UnknownSymbolError
from levibot_core.features.registry import load_registry
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.conformal import ReturnInterval
from levibot_core.models.predictors import LIGHTGBM
from levibot_core.models.uncertainty import UncertaintyParts
from levibot_core.models.venn_abers import VennAbersCalibrator
from levibot_core.models.volatility import VolatilityHead
from levibot_core.models.volatility_fitting import train_volatility
from levibot_core.stores.online import FeatureVector
from levibot_serving.predictor import VOLATILITY_FEATURE, predict, side_of
from levibot_serving.registry import ModelRecord
from levibot_serving.served import ServedModel

NOW_MS = 1_767_225_600_000
GRACE_S = 60.0
BAR_S = 300
VALUES = {"return_1": 1.5, "realized_volatility_48": 0.002, "rsi_14": 0.3}

Vector = Callable[..., FeatureVector]


def served_model(bundle: ModelBundle, tradable: bool = True, reasons: tuple[str, ...] = ()) -> ServedModel:
    record = ModelRecord(name="levibot-5m-h12", version=3, created_ms=1, source="m-3", aliases=("champion",), tags={})
    return ServedModel(bundle, record, tradable, reasons, loaded_at_ms=NOW_MS, from_cache=False)


@pytest.fixture
def served(lightgbm_bundle: Callable[..., ModelBundle]) -> ServedModel:
    return served_model(lightgbm_bundle())


def vector_aged(vector: Vector, age_s: float, **changes: object) -> FeatureVector:
    return vector(known_at_ms=NOW_MS - int(age_s * 1000), **changes)


@pytest.mark.parametrize(
    ("probability", "side"),
    [(1.0, "long"), (0.55, "long"), (0.5499, "flat"), (0.5, "flat"), (0.4501, "flat"), (0.45, "short"), (0.0, "short")],
)
def test_a_side_is_taken_from_the_thresholds_on(probability: float, side: str) -> None:
    assert side_of(probability) == side


def test_a_fresh_vector_gives_the_models_own_number(served: ServedModel, vector: Vector) -> None:
    fresh = vector_aged(vector, 1)
    prediction = predict(served, "BTC/USDT", fresh, NOW_MS, GRACE_S)

    expected = float(served.bundle.predict(served.bundle.matrix_row("BTC/USDT", fresh.values))[0])
    assert prediction.prob_up == expected > 0.55
    assert prediction.prob_lgbm == expected
    assert (prediction.prob_tft, prediction.prob_sent) == (None, None)
    assert prediction.confidence == 2 * (expected - 0.5)
    assert (prediction.side, prediction.tradable, prediction.abstain) == ("long", True, False)
    assert (prediction.fallback, prediction.fallback_reason, prediction.reasons) == (False, None, ())
    assert prediction.price_target == 100.0 * math.exp((2 * expected - 1) * 0.002 * math.sqrt(12))
    assert (prediction.horizon, prediction.timeframe, prediction.model_version) == (60, "5m", 3)
    assert prediction.feature_age_s == prediction.staleness_s == 1.0


def test_another_vector_gives_another_number(served: ServedModel, vector: Vector) -> None:
    falling = vector_aged(vector, 1, values={**VALUES, "return_1": -1.5})
    prediction = predict(served, "BTC/USDT", falling, NOW_MS, GRACE_S)
    assert prediction.side == "short"
    assert prediction.price_target is not None
    assert prediction.price_target < prediction.current_price


@given(known_in_s=st.integers(-2_000, 100), last_return=st.floats(-3, 3))
@settings(max_examples=60, deadline=None)
def test_an_answer_is_tradable_exactly_while_its_features_are_fresh(
    lightgbm_bundle: Callable[..., ModelBundle], known_in_s: int, last_return: float
) -> None:
    values = {**VALUES, "return_1": last_return}
    known_at_ms = NOW_MS + known_in_s * 1000
    features = FeatureVector("BTC/USDT", known_at_ms - BAR_S * 1000, known_at_ms, "v1", "recorded", 100.0, values)
    prediction = predict(served_model(lightgbm_bundle()), "BTC/USDT", features, NOW_MS, GRACE_S)

    fresh = -(BAR_S + GRACE_S) <= known_in_s <= 5
    assert prediction.tradable == fresh
    assert prediction.abstain == prediction.fallback == (not fresh)
    assert fresh or prediction.side == "flat"
    assert fresh or prediction.fallback_reason in prediction.reasons
    assert 0.0 <= prediction.prob_up <= 1.0


def test_stale_features_give_a_flagged_number_and_say_how_old_they_are(served: ServedModel, vector: Vector) -> None:
    prediction = predict(served, "BTC/USDT", vector_aged(vector, 900), NOW_MS, GRACE_S)
    assert prediction.prob_up > 0.55
    assert prediction.side == "flat"
    assert prediction.fallback_reason == "features are 900 s old, and stale after 360 s"


def test_features_from_the_future_are_not_trusted(served: ServedModel, vector: Vector) -> None:
    prediction = predict(served, "BTC/USDT", vector_aged(vector, -30), NOW_MS, GRACE_S)
    assert (prediction.tradable, prediction.abstain) == (False, True)
    assert "a clock is wrong" in str(prediction.fallback_reason)


def test_features_of_a_simulated_market_are_not_tradable(served: ServedModel, vector: Vector) -> None:
    prediction = predict(served, "BTC/USDT", vector_aged(vector, 1, source_kind="simulated"), NOW_MS, GRACE_S)
    assert (prediction.tradable, prediction.source) == (False, "simulated")
    assert "never tradable" in prediction.reasons[0]


def test_a_model_that_is_not_tradable_still_forecasts(
    lightgbm_bundle: Callable[..., ModelBundle], vector: Vector
) -> None:
    model = served_model(lightgbm_bundle(), tradable=False, reasons=("lost to buy-and-hold",))
    prediction = predict(model, "BTC/USDT", vector_aged(vector, 1), NOW_MS, GRACE_S, note="a note")
    assert (prediction.tradable, prediction.abstain, prediction.side) == (False, False, "long")
    assert prediction.reasons == ("lost to buy-and-hold",)
    assert prediction.note == "a note"


def test_the_base_rate_abstains(base_rate: ModelBundle, vector: Vector) -> None:
    model = served_model(base_rate, tradable=False, reasons=("the base rate is served",))
    prediction = predict(model, "BTC/USDT", vector_aged(vector, 1), NOW_MS, GRACE_S)
    assert (prediction.prob_up, prediction.prob_lgbm) == (0.5, None)
    assert (prediction.abstain, prediction.tradable, prediction.fallback) == (True, False, False)
    assert prediction.reasons == ("the base rate is served",)


def test_the_price_target_reads_a_feature_that_exists_in_the_unit_it_expects() -> None:
    feature = next(feature for feature in load_registry("v1").features if feature.name == VOLATILITY_FEATURE)
    assert feature.unit == "log ratio per bar"


def test_without_a_volatility_there_is_no_price_target(bundle_identity: BundleIdentity, vector: Vector) -> None:
    bundle = base_rate_bundle(bundle_identity.model_copy(update={"features": ("return_1",)}))
    bare = vector_aged(vector, 1, values={"return_1": 1.0})
    assert predict(served_model(bundle), "BTC/USDT", bare, NOW_MS, GRACE_S).price_target is None


@pytest.mark.parametrize("volatility", [1e9, 200.0, math.nan])
def test_a_volatility_beyond_all_measure_gives_no_price_target(
    bundle_identity: BundleIdentity, vector: Vector, volatility: float
) -> None:
    values = {**VALUES, VOLATILITY_FEATURE: volatility}
    bundle = base_rate_bundle(bundle_identity.model_copy(update={"features": ()}), np.ones(100))
    absurd = vector_aged(vector, 1, values=values, close=1e300)
    assert predict(served_model(bundle), "BTC/USDT", absurd, NOW_MS, GRACE_S).price_target is None


def test_a_missing_feature_is_named_and_never_a_zero(served: ServedModel, vector: Vector) -> None:
    partial = vector_aged(vector, 1, values={"return_1": 1.0, "realized_volatility_48": math.nan})
    with pytest.raises(MissingFeatureError, match="realized_volatility_48, rsi_14"):
        predict(served, "BTC/USDT", partial, NOW_MS, GRACE_S)


def test_features_of_another_set_are_refused(served: ServedModel, vector: Vector) -> None:
    with pytest.raises(MissingFeatureError, match=r"'v1'.*'v2'"):
        predict(served, "BTC/USDT", vector_aged(vector, 1, feature_set="v2"), NOW_MS, GRACE_S)


@pytest.mark.parametrize("close", [0.0, -1.0, math.nan, math.inf])
def test_a_close_that_is_no_price_is_refused(served: ServedModel, vector: Vector, close: float) -> None:
    with pytest.raises(MissingFeatureError, match="positive close"):
        predict(served, "BTC/USDT", vector_aged(vector, 1, close=close), NOW_MS, GRACE_S)


def test_a_symbol_the_model_does_not_know_is_refused(served: ServedModel, vector: Vector) -> None:
    with pytest.raises(UnknownSymbolError, match="BTC/USDT, ETH/USDT, was DOGE/USDT"):
        predict(served, "DOGE/USDT", vector_aged(vector, 1, symbol="DOGE/USDT"), NOW_MS, GRACE_S)


UNCERTAIN_FIELDS = ("volatility", "interval_level", "return_lower", "return_upper", "price_lower", "price_upper")


@pytest.fixture(scope="module")
def head() -> VolatilityHead:
    """A head that learned that the realised volatility of the last bars goes on."""
    generator = np.random.default_rng(1)
    rows = np.column_stack([generator.normal(size=(600, 3)), generator.integers(0, 2, 600)])
    rows[:, 1] = np.exp(generator.normal(-6.0, 0.5, 600))
    parts = ((rows[:400], 3.0 * rows[:400, 1]), (rows[400:], 3.0 * rows[400:, 1]))
    return train_volatility(*parts, tuple(VALUES), horizon_bars=12, seed=1, max_rounds=20).head()


def test_a_model_without_uncertain_parts_leaves_their_fields_empty(served: ServedModel, vector: Vector) -> None:
    prediction = predict(served, "BTC/USDT", vector_aged(vector, 1), NOW_MS, GRACE_S)
    assert {getattr(prediction, name) for name in (*UNCERTAIN_FIELDS, "prob_lower", "prob_upper")} == {None}


def test_a_volatility_head_gives_the_target_and_with_an_interval_the_band(
    served: ServedModel, head: VolatilityHead, vector: Vector
) -> None:
    fresh = vector_aged(vector, 1)
    expected = float(head.predict(served.bundle.matrix_row("BTC/USDT", fresh.values))[0])
    alone = predict(replace(served, uncertainty=UncertaintyParts(head)), "BTC/USDT", fresh, NOW_MS, GRACE_S)
    assert alone.volatility == expected > 0.0
    assert alone.price_target == 100.0 * math.exp((2 * alone.prob_up - 1) * expected)
    assert {getattr(alone, name) for name in UNCERTAIN_FIELDS[1:]} == {None}

    parts = UncertaintyParts(head, ReturnInterval(0.9, 1.5, 0.005))
    banded = predict(replace(served, uncertainty=parts), "BTC/USDT", fresh, NOW_MS, GRACE_S)
    assert (banded.interval_level, banded.volatility) == (0.9, expected)
    assert banded.return_lower == pytest.approx(math.expm1(-1.5 * expected))
    assert banded.price_upper == pytest.approx(100.0 * math.exp(1.5 * expected))
    assert banded.price_lower is not None
    assert banded.price_target is not None
    assert banded.price_lower < banded.price_target < banded.price_upper


def test_a_price_limit_beyond_all_numbers_is_left_out(
    served: ServedModel, head: VolatilityHead, vector: Vector
) -> None:
    parts = UncertaintyParts(head, ReturnInterval(0.9, 800.0 / 0.003, 0.005))
    far = vector_aged(vector, 1, close=1e300)
    prediction = predict(replace(served, uncertainty=parts), "BTC/USDT", far, NOW_MS, GRACE_S)
    assert (prediction.return_upper, prediction.price_upper) == (None, None)
    assert prediction.price_lower is not None
    prediction.model_dump_json()


def test_a_missing_feature_of_the_head_is_named(
    bundle_identity: BundleIdentity, head: VolatilityHead, vector: Vector
) -> None:
    bundle = base_rate_bundle(bundle_identity.model_copy(update={"features": ("return_1",)}))
    model = replace(served_model(bundle), uncertainty=UncertaintyParts(head))
    with pytest.raises(MissingFeatureError, match="rsi_14"):
        predict(model, "BTC/USDT", vector_aged(vector, 1, values={"return_1": 1.0}), NOW_MS, GRACE_S)


def test_venn_abers_gives_two_probabilities_around_the_served_one(
    bundle_identity: BundleIdentity, booster_text: str, vector: Vector
) -> None:
    calibrator = VennAbersCalibrator((0.5,), (0.3, 0.6), (0.4, 0.7))
    bundle = ModelBundle.build(bundle_identity, LIGHTGBM, {"booster.txt": booster_text.encode()}, calibrator)
    prediction = predict(served_model(bundle), "BTC/USDT", vector_aged(vector, 1), NOW_MS, GRACE_S)
    assert (prediction.prob_lower, prediction.prob_upper) == (0.6, 0.7)
    assert prediction.prob_up == pytest.approx(0.7 / 1.1)
