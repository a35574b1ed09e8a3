"""How values read on pages: with units, in UTC, with ages, and a dash where there is none. No markup."""

from datetime import UTC, datetime

NONE = "–"  # noqa: RUF001 - a dash for people
_AGES = (("day", 86_400.0, 2 * 86_400.0), ("h", 3_600.0, 2 * 3_600.0), ("min", 60.0, 120.0))


def instant(moment: datetime | None) -> str:
    """`2026-01-02 03:04 UTC`."""
    return NONE if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def of_milliseconds(milliseconds: int | None) -> datetime | None:
    """The instant of UTC milliseconds."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def duration(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h`, `4 days`: in the unit that people think in."""
    size = abs(seconds)
    for unit, length, begins in _AGES:
        if size >= begins:
            count = round(size / length)
            return f"{count:,} {unit}{'s' if unit == 'day' else ''}"
    return f"{size:.0f} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """`5 min ago`; of an instant to come, `in 5 min`."""
    if moment is None:
        return ""
    seconds = (now - moment).total_seconds()
    return f"in {duration(seconds)}" if seconds <= -1.0 else f"{duration(max(0.0, seconds))} ago"


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as percent: 0.0123 is `1.23 %`."""
    return NONE if value is None else f"{100.0 * value:z.{digits}f} %"


def signed_percent(value: float | None, digits: int = 2) -> str:
    """A fraction as percent with its sign: `+1.23 %`."""
    return NONE if value is None else f"{100.0 * value:+z.{digits}f} %"


def number(value: float | None, digits: int = 2) -> str:
    """With thousands set apart: `1,234.50`."""
    return NONE if value is None else f"{value:z,.{digits}f}"


def signed(value: float | None, digits: int = 5) -> str:
    """With its sign: `+0.00120`."""
    return NONE if value is None else f"{value:+z.{digits}f}"


def price(value: float | None) -> str:
    """As many digits as a price of that size is quoted with."""
    if value is None:
        return NONE
    if value >= 1000.0:
        return f"{value:,.2f}"
    return f"{value:,.4f}" if value >= 1.0 else f"{value:.6g}"


def e_value(value: float) -> str:
    """An e-value, from hardly any evidence to more than anybody needs."""
    if value >= 1e6:
        return "over 1,000,000"
    if value >= 100.0:
        return f"{value:,.0f}"
    return "under 0.01" if value < 0.01 else f"{value:.2f}"


def days(value: float) -> str:
    """`about 43 days`, `less than a day`."""
    if value < 1.0:
        return "less than a day"
    return f"about {value:,.0f} day{'s' if round(value) != 1 else ''}"
