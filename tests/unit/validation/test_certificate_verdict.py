"""When a certificate speaks against the platform."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy.stats import binom

from levibot_core.validation.certificate import Certificate, Market, MarketOutcome, Platform, certify_outcomes
from levibot_core.validation.certificate_plots import certificate_png
from levibot_core.validation.certificate_verdict import (
    ALLOWED_SHARE,
    FEWEST_FOR_PROOF,
    judge_certificate,
    most_explained,
)
from levibot_core.validation.exact_share import upper_bound
from levibot_core.validation.gates import LossComparison

_PLATFORM = Platform(
    code_version="0123456789ab",
    seed=1,
    timeframe="5m",
    horizon_bars=12,
    days=80,
    symbols=("BTC/USDT",),
    feature_set="v2",
    families=("lightgbm",),
    profile="fast",
    recorded=None,
)


def _certificate(markets: int, false: int, found: int = 1) -> Certificate:
    def outcome(seed: int, edge: float, promoted: bool) -> MarketOutcome:
        mean = -0.002 if promoted else 0.001
        loss = LossComparison(reference="a half", mean=mean, lower_95=-0.01, upper_95=0.01, upper_999=mean + 0.001)
        return MarketOutcome(
            market=Market(kind="simulated", seed=seed, edge=edge, days=80, symbols=("BTC/USDT",)),
            family="lightgbm",
            promoted=promoted,
            refused_by=() if promoted else ("beats_champion",),
            against_champion=loss,
            against_base_rate=loss,
            test_rows=100,
            seconds=1.0,
        )

    without = [outcome(seed, 0.0, seed < false) for seed in range(markets)]
    planted = [outcome(1000 + seed, 0.3, seed < found) for seed in range(2)]
    return certify_outcomes([*without, *planted], _PLATFORM, datetime(2026, 1, 1, tzinfo=UTC))


@examples(max_examples=60)
@given(markets=st.integers(1, 400))
def test_more_than_is_explained_is_seen_in_less_than_one_run_in_twenty_and_one_less_is_not(markets: int) -> None:
    most = most_explained(markets)
    assert binom.sf(most, markets, ALLOWED_SHARE) <= 0.05
    assert most == 0 or binom.sf(most - 1, markets, ALLOWED_SHARE) > 0.05


@pytest.mark.parametrize(("false", "refuted"), [(0, False), (3, False), (4, True), (20, True)])
def test_twenty_markets_refute_but_cannot_prove(false: int, refuted: bool) -> None:
    verdict = judge_certificate(_certificate(20, false))
    assert (verdict.refuted, verdict.proven, verdict.most_explained) == (refuted, False, 3)
    assert f"{false} of 20" in verdict.found
    assert "59 without any would prove" in verdict.found
    assert binom.cdf(3, 20, verdict.noticed_share) == pytest.approx(0.1)


def test_two_hundred_markets_prove_five_percent() -> None:
    verdict = judge_certificate(_certificate(200, 1))
    assert (verdict.refuted, verdict.proven) == (False, True)
    assert "would prove" not in verdict.found
    assert upper_bound(0, FEWEST_FOR_PROOF) <= ALLOWED_SHARE < upper_bound(0, FEWEST_FOR_PROOF - 1)


def test_the_picture_has_every_market() -> None:
    assert certificate_png(_certificate(20, 4)).startswith(b"\x89PNG")
