import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from levibot_core.config import load_profile, load_settings, parse_profile
from levibot_core.errors import ConfigurationError
from levibot_core.labels.definition import TripleBarrierLabel


def test_defaults_describe_a_five_minute_model_of_three_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEVIBOT_MARKET_DATA", raising=False)
    settings = load_settings()

    assert settings.model_name == "levibot-5m-h12"
    assert settings.symbols == ("BTC/USDT", "ETH/USDT", "SOL/USDT")
    assert settings.home == Path(".levibot")
    assert settings.market_data is None


def test_environment_is_read_and_symbols_are_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIBOT_SYMBOLS", "btcusdt, ETH-USDT,BTC/USDT")
    monkeypatch.setenv("LEVIBOT_UNTIL", "2023-04-01")

    settings = load_settings()

    assert settings.symbols == ("BTC/USDT", "ETH/USDT")
    assert settings.until == datetime(2023, 4, 1, tzinfo=UTC)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIBOT_MARKET_DATA", "")

    assert load_settings().market_data is None


@pytest.mark.parametrize(
    ("variable", "value", "mentioned"),
    [
        ("LEVIBOT_SOURCE", "coinbase", "'auto', 'exchange', 'recorded' or 'simulated'"),
        ("LEVIBOT_TIMEFRAME", "7m", "divides a day"),
        ("LEVIBOT_SYMBOLS", "BTC/USDT,nonsense!", "Expected a symbol such as BTC/USDT"),
        ("LEVIBOT_SYMBOLS", " , ", "at least 1 item"),
        ("LEVIBOT_DAYS", "many", "valid integer"),
        ("LEVIBOT_PROFILE", "huge", "'fast' or 'full'"),
    ],
)
def test_a_value_that_cannot_be_used_names_the_variable_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, mentioned: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigurationError) as caught:
        load_settings()

    assert variable in str(caught.value)
    assert mentioned in str(caught.value)


def test_the_full_profile_meets_the_required_number_of_trials() -> None:
    assert load_profile("full").trials >= 200
    assert load_profile("full").early_stopping_rounds >= 50
    assert load_profile("fast").trials == 20


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"\['fast', 'full'\], was 'slow'"):
        load_profile("slow")


def test_redis_is_named_as_everywhere_and_its_password_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().redis_address is None
    monkeypatch.setenv("REDIS_URL", "redis://:s3cret@cache:6379/1")

    settings = load_settings()

    assert settings.redis_address == "redis://:s3cret@cache:6379/1"
    assert "s3cret" not in repr(settings) + str(settings.model_dump())


def test_online_vectors_live_for_a_bar_and_the_grace_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().online_lifetime_s == 360.0
    assert load_settings(timeframe="1h", feature_grace_seconds=30).online_lifetime_s == 3_630.0
    monkeypatch.setenv("LEVIBOT_ONLINE_TTL_SECONDS", "60")
    assert load_settings().online_lifetime_s == 60.0


def test_families_may_have_a_number_of_trials_of_their_own() -> None:
    fast, full = load_profile("fast"), load_profile("full")
    assert (fast.trials_of("lightgbm"), fast.trials_of("xgboost")) == (20, 8)
    assert full.trials_of("lightgbm") == 200


@pytest.mark.parametrize(
    ("change", "mentioned"),
    [
        ("  learning_rat: 0.1\n", "learning_rat: Extra inputs"),
        ("  trials: many\n", "trials: Input should be a valid integer"),
        ("  family_trials: {forest: 3}\n", "family_trials.forest"),
        ("  class_weight: heavy\n", "class_weight: Input should be 'none' or 'balanced'"),
    ],
)
def test_a_profile_with_a_parameter_that_cannot_be_used_names_it(change: str, mentioned: str) -> None:
    text = "tiny:\n  trials: 2\n  max_rounds: 9\n  early_stopping_rounds: 2\n  max_bin: 31\n  drift_rows: 100\n"
    assert parse_profile(text, "tiny").trials == 2
    with pytest.raises(ConfigurationError, match=re.escape(mentioned)) as caught:
        parse_profile(text + change, "tiny")
    assert "Expected the profile 'tiny' of profiles.yml" in str(caught.value)


def test_the_address_of_the_studies_keeps_its_password_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().study_address is None
    monkeypatch.setenv("LEVIBOT_STUDY_URL", "postgresql://ada:s3cret@db/studies")

    settings = load_settings()

    assert settings.study_address == "postgresql://ada:s3cret@db/studies"
    assert "s3cret" not in repr(settings) + str(settings.model_dump())


def test_labels_of_another_kind_are_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = load_settings()
    assert (usual.labels, usual.sample_weights, usual.triple_barrier, usual.label_bars) == (
        "direction",
        "none",
        None,
        12,
    )
    monkeypatch.setenv("LEVIBOT_LABELS", "triple_barrier")
    settings = load_settings(horizon_bars=24)
    assert settings.triple_barrier == TripleBarrierLabel(profit_atr=3.0, stop_atr=2.0, max_bars=60)
    assert (settings.model_name, settings.label_bars) == ("levibot-5m-tb60", 60)
    for name, value in (("LEVIBOT_LABELS", "sideways"), ("LEVIBOT_SAMPLE_WEIGHTS", "heavy")):
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match=name):
            load_settings()
        monkeypatch.delenv(name)


def test_families_to_train_are_named_with_commas_and_have_to_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().families == ("lightgbm", "xgboost", "tft")
    monkeypatch.setenv("LEVIBOT_FAMILIES", "tft, lightgbm")
    assert load_settings().families == ("tft", "lightgbm")
    monkeypatch.setenv("LEVIBOT_FAMILIES", "forest")
    with pytest.raises(ConfigurationError, match=r"LEVIBOT_FAMILIES.*forest"):
        load_settings()
