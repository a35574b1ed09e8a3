"""The plan of a certificate, what its outcomes prove, and its page."""

import re
from collections import Counter
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levibot_core.validation.certificate import (
    EDGES,
    Certificate,
    Market,
    MarketOutcome,
    Platform,
    certify_outcomes,
    plan_markets,
)
from levibot_core.validation.certificate_page import certificate_html, verdict
from levibot_core.validation.gates import LossComparison

_PLATFORM = Platform(
    code_version="0123456789ab+src.ba9876543210",
    seed=5,
    timeframe="5m",
    horizon_bars=12,
    days=80,
    symbols=("BTC/USDT", "ETH/USDT"),
    feature_set="v2",
    families=("lightgbm", "xgboost"),
    profile="fast",
    recorded="candles of <somebody>",
)


def _loss(mean: float, margin: float) -> LossComparison:
    return LossComparison(
        reference="a half", mean=mean, lower_95=mean - margin / 2, upper_95=mean + margin / 2, upper_999=mean + margin
    )


def _outcome(market: Market, evidence: float) -> MarketOutcome:
    promoted = evidence > 1.0
    return MarketOutcome(
        market=market,
        family="lightgbm",
        promoted=promoted,
        refused_by=() if promoted else ("beats_champion",),
        against_champion=_loss(-0.001 * evidence, 0.001),
        against_base_rate=_loss(-0.003 * evidence, 0.001),
        test_rows=1000,
        seconds=30.0,
    )


@pytest.fixture
def certificate() -> Certificate:
    """Of twenty markets without an edge one was promoted, of two with each edge one."""
    plan = plan_markets(20, 5, 80, _PLATFORM.symbols, recorded=True)
    outcomes = [
        _outcome(market, 1.5 if market.seed == 7 or (market.edge and market.seed % 2) else 0.3) for market in plan
    ]
    return certify_outcomes(outcomes, _PLATFORM, datetime(2026, 1, 1, tzinfo=UTC))


@given(shorter=st.integers(1, 60), more=st.integers(0, 200), recorded=st.booleans(), seed=st.integers(0, 10_000))
def test_a_longer_plan_holds_the_shorter_one_and_no_market_twice(
    shorter: int, more: int, recorded: bool, seed: int
) -> None:
    short, long = (
        plan_markets(number, seed, 80, ("BTC/USDT",), recorded=recorded) for number in (shorter, shorter + more)
    )
    assert set(short) <= set(long)
    assert len(set(long)) == len(long)
    assert [market.seed for market in long if not market.edge] == list(range(seed, seed + shorter + more))
    planted = Counter(market.edge for market in long if market.edge)
    assert set(planted) == set(EDGES)
    assert set(planted.values()) == {max(2, (shorter + more) // 10)}


def test_more_or_fewer_may_be_planted_and_the_ones_there_are_count() -> None:
    chosen = plan_markets(20, 5, 80, _PLATFORM.symbols, recorded=True, planted=5)
    assert Counter(market.edge for market in chosen) == {0.0: 20, **dict.fromkeys(EDGES, 5)}
    assert set(plan_markets(20, 5, 80, _PLATFORM.symbols, recorded=True)) < set(chosen)


def test_every_other_market_is_of_recorded_candles_where_there_are_any() -> None:
    kinds = Counter(market.kind for market in plan_markets(20, 1, 80, ("BTC/USDT",), recorded=True) if not market.edge)
    assert kinds == {"simulated": 10, "sign": 5, "order": 5}
    assert {market.kind for market in plan_markets(20, 1, 80, ("BTC/USDT",), recorded=False)} == {"simulated"}


def test_outcomes_prove_the_exact_bound_and_the_power(certificate: Certificate) -> None:
    assert (certificate.markets, certificate.false_promotions, certificate.share) == (20, 1, 0.05)
    assert certificate.upper_bound_95 == pytest.approx(0.2161, abs=5e-5)
    assert sum(kind.markets for kind in certificate.kinds) == 20
    assert [(share.edge, share.markets, share.promoted) for share in certificate.power] == [(e, 2, 1) for e in EDGES]
    assert certificate.processor_seconds == 28 * 30.0
    assert Certificate.model_validate_json(certificate.model_dump_json()) == certificate


def test_evidence_is_measured_against_the_harder_reference() -> None:
    outcome = _outcome(Market(kind="order", seed=1, days=80, symbols=("BTC/USDT",)), 0.5)
    assert outcome.evidence == pytest.approx(0.5)
    level = outcome.model_copy(update={"against_champion": _loss(0.0, 0.0)})
    assert level.evidence == 0.0


def test_the_verdict_says_how_often_and_how_sure(certificate: Certificate) -> None:
    assert "Of 20 markets in which nothing can be forecast, 1 was promoted" in verdict(certificate)
    assert "at most 22 % of such markets" in verdict(certificate)
    none = certify_outcomes(certificate.outcomes[3:20], _PLATFORM, certificate.created_at)
    assert "none was promoted" in verdict(none)


def test_the_page_stands_alone_and_is_well_formed(certificate: Certificate) -> None:
    html = certificate_html(certificate)
    main = ElementTree.fromstring(html[html.index("<main>") : html.index("</main>") + len("</main>")])  # noqa: S314
    text = " ".join("".join(main.itertext()).split())
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", html)
    assert len(main.findall(".//svg")) == 2
    assert len(main.findall(".//details//tr")) == 29
    for shown in (verdict(certificate), "candles of <somebody>", "levibot certify --markets 20 --seed 5", "1 of 20"):
        assert shown in text
    assert html == certificate_html(certificate)
