"""The data dictionary: complete, in step with the registry, and an answer to every earlier name."""

import re
from fnmatch import filter as matching
from pathlib import Path

import pytest

from levibot_core.features.dictionary import NOT_OFFERED, data_dictionary, section_of
from levibot_core.features.registry import load_registry, newest_version

NEWEST = load_registry(newest_version())
PAGE = data_dictionary(NEWEST)
COMMITTED = Path(__file__).parents[3] / "docs" / "features.md"

EARLIER_NAMES = {
    "production": "close ret1 sma20_gap sma50_gap vol_z",
    "nightly": "close ret1 ret5 sma20_gap sma50_gap ema12_gap ema26_gap volume volatility",
    "seconds": "ret_1m ret_5m vol_1m vol_5m rsi_14 zscore_60",
    "quarters of an hour": "ret_1 ret_3 ret_6 ret_12 rsi_14 ema_21 ema_55 ema_200 bb_upper bb_lower bb_pct atr_14 "
    "realized_vol_20 z_score_20 regime_vol regime_trend label_return_3 label_direction",
    "deep": "ret_1 ema_20 ema_50 ema_200 z_20 range vol_20 ratio_BTC_ETH ratio_ETH_SOL lead_ret_BTC",
    "engines": "vwap_dev zscore atr rsi vol_ratio vol_imbalance spread_bps ofi regime volatility_regime",
    "demonstration": "bbp fund_rate oi_chg_3 ob_imb snews_impact snews_conf",
    "stores": "funding_rate oi_change_3 long_short_ratio news_impact news_confidence",
    "on-chain": "active_wallets exchange_inflow exchange_outflow funding_rate whale_txs sentiment",
}
PLANNED = (
    "EMA 9, EMA 21, EMA 50, EMA 200, RSI 7, RSI 14, MACD 12-26-9, zscore returns 5, zscore returns 20, ATR 14, "
    "Parkinson 20, funding, OI, book imbalance, session flags"
)


def test_the_page_in_docs_is_up_to_date() -> None:
    assert COMMITTED.read_text("utf-8") == PAGE, "Run `levibot features document` and commit the page."


def rows_of(page: str) -> list[list[str]]:
    cells = (re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line.startswith("| `"))
    return [[cell.strip() for cell in row] for row in cells]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_every_feature_stands_once_with_its_definition(version: str) -> None:
    feature_set = load_registry(version)
    features = [row for row in rows_of(data_dictionary(feature_set)) if len(row) == 7]
    assert sorted(row[0].strip("`") for row in features) == sorted(feature_set.names)
    by_name = {row[0].strip("`"): row for row in features}
    for spec in feature_set.features:
        _, formula, window, warm_up, unit, inputs, since = by_name[spec.name]
        assert formula.replace("\\|", "|") == spec.formula
        assert (window, warm_up, unit, since) == (str(spec.window), str(spec.warm_up), spec.unit, spec.since)
        assert set(inputs.split(", ")) == set(spec.inputs)


def test_every_table_row_has_the_cells_of_its_head() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("bar_range", "The shape of the bar"),
        ("bar_range_4h", "Closed bars of 4h"),
        ("sma_gap_20", "Returns, gaps to averages, fitted lines"),
        ("vwap_gap_20", "Volume"),
        ("leader_return_1", "The leading market"),
        ("leader_correlation_60", "The leading market"),
        ("funding_rate_last", "Funding"),
        ("weekend", "Calendar"),
    ],
)
def test_a_feature_stands_with_its_kind(name: str, section: str) -> None:
    assert section_of({spec.name: spec for spec in NEWEST.features}[name]) == section
    before = PAGE[: PAGE.index(f"| `{name}` |")]
    assert re.findall("^## (.*)$", before, re.MULTILINE)[-1] == section


def test_every_earlier_name_is_answered_once_and_no_other() -> None:
    earlier = {name for names in EARLIER_NAMES.values() for name in names.split()} | set(PLANNED.split(", "))
    replaced = {name for spec in NEWEST.features for name in spec.replaces}
    refused = [name for names in NOT_OFFERED.values() for name in names]
    assert replaced | set(refused) == earlier
    assert replaced.isdisjoint(refused)
    assert len(set(refused)) == len(refused)
    answers = [name for row in rows_of(PAGE) if len(row) == 2 for name in re.findall("`(.+?)`", row[0])]
    assert sorted(answers) == sorted(earlier)


def test_what_an_answer_refers_to_exists() -> None:
    for reason in NOT_OFFERED:
        for pattern in re.findall("`(.+?)`", reason):
            assert matching(NEWEST.names, pattern), pattern
