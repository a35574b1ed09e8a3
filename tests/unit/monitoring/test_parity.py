"""Parity: bits that agree are counted, one that does not is named."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from levibot_core.errors import LakeCorruptionError
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_core.market.timeframe import Timeframe
from levibot_core.monitoring.parity import DayParity, OfflineComputation, replay_log
from levibot_core.monitoring.parity_report import parity_report, read_parity_report, replay_since, write_parity_report
from levibot_core.monitoring.plots import parity_png
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import candles_dataset, fear_greed_dataset, funding_dataset
from levibot_core.stores.served_log import FurtherServings, ServedLog, ServedVector

V1 = load_registry("v1")
FIVE_MINUTES = Timeframe.parse("5m")
PER_VECTOR = len(V1.names) + 1  # and the close
DAY = date(2026, 1, 2)
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Served:
    """A lake and what was served from it."""

    lake: Lake
    log: ServedLog
    vectors: Sequence[ServedVector]

    def replay(self) -> DayParity:
        (day,) = replay_log(self.log, OfflineComputation(self.lake, "spot", FIVE_MINUTES))
        return day

    def logged(self, *vectors: ServedVector) -> DayParity:
        self.log.append(vectors)
        return self.replay()


@pytest.fixture(scope="module")
def market(make_market: Callable[..., Any]) -> Any:
    return make_market(("BTC/USDT", "ETH/USDT"), bars=390)  # the 384th bar closes at a settlement


@pytest.fixture
def served(market: Any, tmp_path: Path) -> Served:
    lake = Lake(tmp_path / "lake")
    lake.append(candles_dataset("recorded", "spot", "5m"), market.candles, observed_at_ms=0)
    lake.append(funding_dataset("recorded"), market.funding, observed_at_ms=0)
    rows = compute_features(market.candles, market.funding, V1, FIVE_MINUTES).join(
        market.candles.select("symbol", "ts", "close"), on=["symbol", "ts"]
    )
    vectors = [
        ServedVector(
            symbol=row["symbol"],
            ts_ms=int(row["ts"].timestamp() * 1000),
            known_at_ms=int(row["known_at"].timestamp() * 1000),
            feature_set="v1",
            source_kind="recorded",
            source_key="recorded",
            model="levibot-5m-h12",
            model_version=2,
            served_at_ms=int(NOW.timestamp() * 1000) + number,
            close=row["close"],
            values={name: row[name] for name in V1.names},
        )
        for number, row in enumerate(rows.group_by("symbol", maintain_order=True).tail(12).iter_rows(named=True))
    ]
    return Served(lake, ServedLog(tmp_path / "served"), vectors)


def flipped(number: float, bit: int = 0) -> float:
    (bits,) = struct.unpack("<Q", struct.pack("<d", number))
    (other,) = struct.unpack("<d", struct.pack("<Q", bits ^ 1 << bit))
    return float(other)


def test_what_was_served_as_computed_has_no_mismatch(served: Served) -> None:
    found = served.logged(*served.vectors)
    assert (found.day, found.vectors, found.compared, found.mismatches) == (DAY, 24, 24 * PER_VECTOR, 0)
    assert found.differences.is_empty()
    assert (found.not_comparable, found.unreadable_lines) == ({}, 0)


@pytest.mark.parametrize("bit", [0, 31, 51, 63])
def test_one_flipped_bit_is_that_one_mismatch(served: Served, bit: int) -> None:
    victim = served.vectors[5]
    altered = {**victim.values, "rsi_14": flipped(victim.values["rsi_14"], bit)}
    found = served.logged(*served.vectors[:5], replace(victim, values=altered), *served.vectors[6:])
    assert (found.compared, found.mismatches) == (24 * PER_VECTOR, 1)
    (difference,) = found.differences.iter_rows(named=True)
    assert (difference["symbol"], difference["feature"]) == (victim.symbol, "rsi_14")
    assert int(difference["ts"].timestamp() * 1000) == victim.ts_ms
    assert (difference["served"], difference["offline"]) == (altered["rsi_14"], victim.values["rsi_14"])
    assert (difference["model_version"], int(difference["served_at"].timestamp() * 1000)) == (2, victim.served_at_ms)


def test_the_sign_of_a_zero_and_the_close_count_too(served: Served) -> None:
    name = "funding_hours_since"
    victim = next(vector for vector in served.vectors if vector.values[name] == 0.0)
    altered = replace(victim, close=flipped(victim.close), values={**victim.values, name: -victim.values[name]})
    assert set(served.logged(altered).differences["feature"]) == {name, "close"}


def test_an_absent_feature_and_a_strange_one_are_mismatches(served: Served) -> None:
    victim = served.vectors[0]
    values = {name: value for name, value in victim.values.items() if name != "rsi_14"} | {"invented": 1.0}
    found = served.logged(replace(victim, values=values))
    assert (found.compared, found.mismatches) == (PER_VECTOR + 1, 2)
    assert found.differences["feature"].to_list() == ["invented", "rsi_14"]
    assert found.differences["offline"].is_nan().to_list() == [True, False]
    assert found.differences["served"].is_nan().to_list() == [False, True]


def test_a_bar_that_the_lake_does_not_hold_differs_in_everything(served: Served) -> None:
    victim = replace(served.vectors[0], ts_ms=served.vectors[-1].ts_ms + 300_000)
    found = served.logged(victim, served.vectors[1])
    assert (found.compared, found.mismatches) == (2 * PER_VECTOR, PER_VECTOR)
    assert found.differences["offline"].is_nan().all()


def test_what_cannot_be_replayed_is_counted_by_reason_and_is_no_mismatch(served: Served) -> None:
    vector = served.vectors[0]
    found = served.logged(
        vector,
        replace(vector, source_key=None),
        replace(vector, source_key="exchange-nowhere"),
        replace(vector, feature_set="v99"),
    )
    assert (found.vectors, found.compared, found.mismatches) == (4, PER_VECTOR, 0)
    assert sorted(found.not_comparable.values()) == [1, 1, 1]
    reasons = " ".join(found.not_comparable)
    assert "was not known" in reasons
    assert "exchange-nowhere" in reasons
    assert "v99" in reasons


def test_servings_are_summed_and_a_cut_line_is_counted(served: Served) -> None:
    first = served.vectors[0]
    more = FurtherServings(first.symbol, first.ts_ms, "v1", 2, servings=41, served_at_ms=first.served_at_ms + 50)
    served.logged(first, more, served.vectors[1])
    path = served.log.files()[DAY]
    path.write_bytes(path.read_bytes()[:-20])
    found = served.replay()
    assert (found.vectors, found.servings, found.unreadable_lines, found.mismatches) == (1, 42, 1, 0)


def served_as_known(lake: Lake, feature_set: FeatureSet, decision_ms: int) -> ServedVector:
    """The vector of BTC/USDT that a pipeline would have put at that close: from what the lake held known then."""
    candles, funding, fear_greed = (
        lake.read(dataset, as_of_ms=decision_ms)
        for dataset in (
            candles_dataset("recorded", "spot", "5m"),
            funding_dataset("recorded"),
            fear_greed_dataset("recorded"),
        )
    )
    ts_ms = decision_ms - FIVE_MINUTES.milliseconds
    features = compute_features(
        candles, funding, feature_set, FIVE_MINUTES, start_ms=ts_ms, end_ms=decision_ms, fear_greed=fear_greed
    ).filter(pl.col("symbol") == "BTC/USDT")
    values = features.select(feature_set.names).row(0, named=True)
    close = candles.filter((pl.col("symbol") == "BTC/USDT") & (pl.col("ts") == features["ts"][0]))["close"][0]
    return ServedVector(
        symbol="BTC/USDT",
        ts_ms=ts_ms,
        known_at_ms=decision_ms,
        feature_set=feature_set.version,
        source_kind="recorded",
        source_key="recorded",
        model="levibot-5m-h12",
        model_version=2,
        served_at_ms=decision_ms + 1_000,
        close=close,
        values=values,
    )


def test_corrections_change_neither_what_was_right_nor_hide_what_was_known_too_early(
    make_market: Callable[..., Any], fear_greed: pl.DataFrame, tmp_path: Path
) -> None:
    feature_set = load_registry("v2")
    market = make_market(("BTC/USDT", "ETH/USDT"), bars=feature_set.warm_up + 20)
    lake, log, candles = Lake(tmp_path / "lake"), ServedLog(tmp_path / "log"), candles_dataset("recorded", "spot", "5m")
    lake.append(candles, market.candles, observed_at_ms=0)
    lake.append(funding_dataset("recorded"), market.funding, observed_at_ms=0)
    lake.append(fear_greed_dataset("recorded"), fear_greed, observed_at_ms=0)
    closes = [int(known_at.timestamp() * 1000) for known_at in market.candles["known_at"].unique().sort().tail(16)]
    # The bar that closes at closes[4] is corrected at closes[10].
    is_corrected = (pl.col("symbol") == "BTC/USDT") & (pl.col("known_at").dt.epoch("ms") == closes[4])
    corrected = market.candles.filter(is_corrected).with_columns(pl.col("high", "close") * 1.001)
    lake.append(candles, corrected, observed_at_ms=closes[10])

    served = [served_as_known(lake, feature_set, decision_ms) for decision_ms in closes]
    assert [all(value == value for value in vector.values.values()) for vector in served] == [True] * 16
    log.append(served)
    (day,) = replay_log(log, OfflineComputation(lake, "spot", FIVE_MINUTES))
    assert (day.compared, day.mismatches) == (16 * (len(feature_set.names) + 1), 0)

    knew_too_early = replace(served[4], close=corrected["close"][0])
    log.append([knew_too_early])
    (day,) = replay_log(log, OfflineComputation(lake, "spot", FIVE_MINUTES))
    assert day.differences["feature"].to_list() == ["close"]


def test_the_report_adds_up_and_keeps_days_whose_log_is_gone(served: Served, tmp_path: Path) -> None:
    victim = served.vectors[0]
    day = served.logged(replace(victim, close=flipped(victim.close)), served.vectors[1])
    path = tmp_path / "reports" / "parity.json"
    assert read_parity_report(path) is None

    first = parity_report([day], NOW, [DAY], None)
    write_parity_report(path, first)
    written = read_parity_report(path)
    assert written is not None
    assert (written["compared"], written["mismatches"]) == (2 * PER_VECTOR, 1)
    assert (written["parity_compared_total"], written["parity_mismatches_total"]) == (2 * PER_VECTOR, 1)
    assert [item["feature"] for item in written["differences"]] == ["close"]
    assert written["days"][0]["day"] == "2026-01-02"

    again = parity_report([day], NOW, [DAY], written).to_dict()
    assert again == written, "a day that is replayed again is counted once"

    next_day = replace(day, day=DAY + timedelta(days=2), mismatches=0, differences=day.differences.clear())
    soon = parity_report([next_day], NOW + timedelta(days=2), [DAY, next_day.day], written).to_dict()
    assert (soon["compared"], soon["mismatches"]) == (4 * PER_VECTOR, 1), "the log still holds the first day"
    assert soon["differences"] == written["differences"]

    later = parity_report([next_day], NOW + timedelta(days=40), [next_day.day], soon).to_dict()
    assert (later["compared"], later["mismatches"], later["differences"]) == (2 * PER_VECTOR, 0, [])
    assert (later["parity_compared_total"], later["parity_mismatches_total"]) == (4 * PER_VECTOR, 1)
    assert [item["day"] for item in later["days"]] == ["2026-01-02", "2026-01-04"]
    assert parity_report([], NOW + timedelta(days=999), [], later).to_dict()["days"] == []


def test_a_replay_begins_with_the_days_that_may_have_grown(served: Served) -> None:
    week = [DAY + timedelta(days=day) for day in range(7)]
    served.log.append([replace(served.vectors[0], served_at_ms=_noon_ms(day)) for day in week])
    offline = OfflineComputation(served.lake, "spot", FIVE_MINUTES)
    assert replay_since(None) is None
    since = replay_since({"replayed_at": "2026-01-06T00:00:01+00:00"})
    assert [day.day for day in replay_log(served.log, offline, since)] == week[3:]
    assert [day.day for day in replay_log(served.log, offline)] == week


def _noon_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)


def test_nothing_served_is_nothing_compared(tmp_path: Path) -> None:
    offline = OfflineComputation(Lake(tmp_path / "lake"), "spot", FIVE_MINUTES)
    report = parity_report(replay_log(ServedLog(tmp_path / "served"), offline), NOW, [], None).to_dict()
    assert (report["compared"], report["mismatches"], report["days"], report["differences"]) == (0, 0, [], [])


def test_the_picture_shows_days_that_differ_apart() -> None:
    days = [{"day": f"2026-01-{day:02d}", "compared": 1_000 * day, "mismatches": 0} for day in range(1, 20)]
    wrong = [*days[:-1], {**days[-1], "mismatches": 3}]
    assert parity_png([], "parity").startswith(b"\x89PNG")
    assert parity_png(days, "parity") != parity_png(wrong, "parity")


@pytest.mark.parametrize("text", ["{", "[]", '{"days": [{"day": "yesterday"}]}', '{"days": [{"day": "2026-01-02"}]}'])
def test_a_report_that_is_none_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "parity.json"
    path.write_text(text)
    with pytest.raises(LakeCorruptionError, match="Move it away"):
        read_parity_report(path)
