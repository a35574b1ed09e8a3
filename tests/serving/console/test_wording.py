from datetime import UTC, datetime, timedelta

import pytest

from levibot_serving.console import wording

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (119, "119 s"),
        (121, "2 min"),
        (7_300, "2 h"),
        (86_400 * 2, "2 days"),
        (86_400 * 4000, "4,000 days"),
    ],
)
def test_ages_read_in_the_unit_that_people_think_in(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words
    assert wording.ago(NOW - timedelta(seconds=seconds), NOW) == f"{words} ago"


def test_an_instant_to_come_is_no_age() -> None:
    assert wording.ago(NOW + timedelta(minutes=5), NOW) == "in 5 min"
    assert wording.ago(NOW + timedelta(milliseconds=5), NOW) == "0 s ago"


def test_instants_are_told_in_utc() -> None:
    assert wording.instant(datetime.fromisoformat("2026-01-02T05:04:05+02:00")) == "2026-01-02 03:04 UTC"


@pytest.mark.parametrize(
    ("value", "words"),
    [(97310.5, "97,310.50"), (123.4, "123.4000"), (1.23456, "1.2346"), (0.000012345678, "1.23457e-05"), (None, "–")],  # noqa: RUF001
)
def test_prices_have_the_digits_they_are_quoted_with(value: float | None, words: str) -> None:
    assert wording.price(value) == words


def test_nothing_is_minus_zero_and_nothing_missing_is_a_zero() -> None:
    assert wording.signed_percent(-0.0000001) == "+0.00 %"
    assert wording.percent(-0.0000001) == "0.00 %"
    assert wording.number(-0.0001) == "0.00"
    assert {wording.percent(None), wording.signed(None), wording.number(None), wording.instant(None)} == {wording.NONE}


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "under 0.01"), (1.0, "1.00"), (123.4, "123"), (1e9, "over 1,000,000")]
)
def test_e_values_are_short(value: float, words: str) -> None:
    assert wording.e_value(value) == words


def test_days_are_about() -> None:
    assert [wording.days(days) for days in (0.4, 1.2, 43.4)] == ["less than a day", "about 1 day", "about 43 days"]
