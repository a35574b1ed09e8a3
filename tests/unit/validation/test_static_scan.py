"""The static rule: what looks ahead is found by line, what looks back is left alone."""

from pathlib import Path

import pytest

import levibot_core.features
import levibot_core.labels
from levibot_core.validation.static_scan import scan_feature_code


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("y = close.shift(-1)", "negative_shift"),
        ("y = close.shift(periods=-horizon)", "negative_shift"),
        ("y = pl.col('close').diff(-3)", "negative_shift"),
        ("y = pct_change(close, -1)", "negative_shift"),
        ("y = lagged(close, -2)", "negative_shift"),
        ("y = np.roll(close, 1)", "wrap_around"),
        ("y = close.rolling(20, center=True).mean()", "centred_window"),
        ("y = pl.col('close').rolling_mean(5, center=flag)", "centred_window"),
        ("y = close.bfill()", "fill_from_future"),
        ("y = close.fill_null(strategy='backward')", "fill_from_future"),
        ("y = close.fill_null(strategy='mean')", "fill_from_future"),
        ("y = a.join_asof(b, on='ts', strategy='forward')", "join_with_future"),
        ("y = pd.merge_asof(a, b, direction='nearest')", "join_with_future"),
        ("y = np.maximum.accumulate(close[::-1])[::-1]", "reversed_accumulation"),
        ("y = pl.col('close').reverse().cum_max()", "reversed_accumulation"),
        ("y = pl.col('close').cum_sum(reverse=True)", "reversed_accumulation"),
        ("y = np.cumsum(np.flip(close))", "reversed_accumulation"),
        ("y[:-lag] = close[lag:]", "forward_slice"),
        ("y[: n - 3] = close[3:]", "forward_slice"),
        ("y = np.append(close[1:], np.nan)", "forward_slice"),
        ("y = np.concatenate([close[half:], np.full(half, np.nan)])", "forward_slice"),
        ("y = (close - np.nanmean(close)) / 2", "whole_sample_statistic"),
        ("y = close > np.quantile(close, 0.66)", "whole_sample_statistic"),
        ("y = scaler.fit_transform(close)", "fit_in_feature_code"),
        ("for i in range(n): y[i] = close[i + 1] - close[i]", "forward_read"),
        ("for row in range(n): y[row] += close[row + horizon]", "forward_read"),
    ],
)
def test_look_ahead_is_found_by_line(tmp_path: Path, code: str, rule: str) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(f"import numpy as np\n\n{code}\n")
    (finding,) = scan_feature_code(path)
    assert (finding.line, finding.rule) == (3, rule)
    assert str(finding).startswith(f"{path}:3: {rule}: ")


@pytest.mark.parametrize(
    "code",
    [
        "y = close.shift(1)",
        "y = close.rolling(20, center=False).mean()",
        "y = close.fill_null(strategy='forward')",
        "y = a.join_asof(b, on='ts', strategy='backward')",
        "y = close[-1] - close[-2]",
        "y = np.maximum(-low, -before)",
        "y[lag:] = close[: n - lag]",
        "y[:] = close[begin:end]",
        "y = np.append(0.0, close[1:])",
        "y = np.concatenate([[0], np.cumsum(close)])",
        "y = np.maximum.accumulate(close)",
        "y = np.mean(table, axis=1)",
        "y = window_mean(close, 20)",
        "for i in range(n): counts[i + 1] = counts[i] + close[i]",
        "for i in range(size): y[i] = close[begin + i] - close[i - 1]",
        "for lag in range(window): total += close[begin - lag]",
    ],
)
def test_looking_back_is_left_alone(tmp_path: Path, code: str) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(code)
    assert scan_feature_code(path) == []


def test_a_folder_is_searched_through(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "two.py").write_text("x.shift(-1)\nx.shift(-2)\n")
    (tmp_path / "one.py").write_text("x.bfill()\n")
    assert [(Path(found.path).name, found.line) for found in scan_feature_code(tmp_path)] == [
        ("two.py", 1),
        ("two.py", 2),
        ("one.py", 1),
    ]


def test_our_own_feature_and_label_code_is_clean() -> None:
    for package in (levibot_core.features, levibot_core.labels):
        assert scan_feature_code(Path(package.__path__[0])) == []
