from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from levibot_core.backtest.engine import Account, BacktestParameters, BacktestResult, run_backtest
from levibot_core.errors import DataQualityError
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

_FIVE_MINUTES = Timeframe.parse("5m")
_STEP = _FIVE_MINUTES.milliseconds
_START = 1_735_689_600_000
_FREE = BacktestParameters(taker_fee=0.0, slippage=0.0)

Bars = Sequence[tuple[int, float, float]]
"""Number of the bar, open, close."""


def _candles(bars: Bars, symbol: str = "BTC/USDT") -> pl.DataFrame:
    return pl.DataFrame(
        [(symbol, _START + bar * _STEP, opened, closed) for bar, opened, closed in bars],
        schema={"symbol": pl.String, "ts": pl.Int64, "open": pl.Float64, "close": pl.Float64},
        orient="row",
    ).with_columns(pl.col("ts").cast(TIMESTAMP))


def _predictions(probabilities: dict[int, float], symbol: str = "BTC/USDT") -> pl.DataFrame:
    return pl.DataFrame(
        [(symbol, _START + bar * _STEP, probability) for bar, probability in probabilities.items()],
        schema={"symbol": pl.String, "ts": pl.Int64, "prob_up": pl.Float64},
        orient="row",
    ).with_columns(pl.col("ts").cast(TIMESTAMP))


def _run(bars: Bars, probabilities: dict[int, float], parameters: BacktestParameters | None = None) -> BacktestResult:
    return run_backtest(_candles(bars), _predictions(probabilities), _FIVE_MINUTES, parameters or BacktestParameters())


def _bar_of(result: BacktestResult, column: str) -> list[int]:
    return [(value - _START) // _STEP for value in result.strategy.trades[column].dt.epoch("ms")]


def test_a_long_is_filled_at_the_next_open_with_slippage_and_fees() -> None:
    bars = [(0, 90.0, 95.0), (1, 100.0, 110.0), (2, 120.0, 125.0), (3, 130.0, 135.0)]

    result = _run(bars, {0: 0.6, 1: 0.5})

    trade = result.strategy.trades.row(0, named=True)
    assert (_bar_of(result, "entry_ts"), _bar_of(result, "exit_ts")) == ([1], [2])
    assert trade["entry_price"] == pytest.approx(100 * 1.0005)
    assert trade["exit_price"] == pytest.approx(120 * 0.9995)
    quantity = 1000.0 / 100.05
    assert trade["quantity"] == pytest.approx(quantity)
    assert trade["fees"] == pytest.approx(0.0015 * (1000.0 + quantity * 119.94))
    assert trade["gross_pnl"] == pytest.approx(quantity * 20.0)
    assert trade["slippage_cost"] == pytest.approx(quantity * (0.05 + 0.06))
    assert trade["net_pnl"] == pytest.approx(trade["gross_pnl"] - trade["slippage_cost"] - trade["fees"])
    assert result.strategy.equity["equity"][-1] == pytest.approx(10_000 + trade["net_pnl"])


def test_a_short_gains_when_the_price_falls() -> None:
    result = _run([(0, 100, 100), (1, 100, 100), (2, 90, 90), (3, 90, 90)], {0: 0.4, 1: 0.5}, _FREE)

    assert result.strategy.trades["side"].to_list() == ["short"]
    assert result.strategy.trades["net_pnl"].to_list() == [pytest.approx(100.0)]


def test_a_reversal_closes_and_opens_at_the_same_open() -> None:
    result = _run([(0, 100, 100), (1, 100, 100), (2, 110, 110), (3, 99, 99)], {0: 0.6, 1: 0.4, 2: 0.4}, _FREE)

    assert result.strategy.trades["side"].to_list() == ["long", "short"]
    assert (_bar_of(result, "entry_ts"), _bar_of(result, "exit_ts")) == ([1, 2], [2, 4])


def test_a_position_is_held_while_the_side_stays() -> None:
    result = _run([(bar, 100.0, 100.0) for bar in range(6)], dict.fromkeys(range(5), 0.9), _FREE)

    assert result.strategy.trades.height == 1
    assert result.strategy.trades["bars_held"].to_list() == [5]


def test_no_forecast_means_flat() -> None:
    result = _run([(bar, 100.0, 100.0) for bar in range(4)], {0: 0.9}, _FREE)

    assert (_bar_of(result, "entry_ts"), _bar_of(result, "exit_ts")) == ([1], [2])


def test_after_a_gap_an_order_is_filled_at_the_first_bar_there_is() -> None:
    result = _run([(0, 100, 100), (5, 104, 104), (6, 105, 105)], {0: 0.9, 5: 0.9}, _FREE)

    assert _bar_of(result, "entry_ts") == [5]
    assert result.strategy.trades["entry_price"].to_list() == [104.0]


def test_what_is_open_at_the_end_is_closed_at_the_last_close_with_costs() -> None:
    result = _run([(0, 100, 100), (1, 100, 100)], {0: 0.9, 1: 0.9})

    assert result.strategy.trades["exit_price"].to_list() == [pytest.approx(100 * 0.9995)]
    assert result.strategy.equity["cash"][-1] == result.strategy.equity["equity"][-1] < 10_000


def test_buying_and_holding_buys_once_per_symbol_at_the_first_fill() -> None:
    candles = pl.concat(
        [_candles([(0, 1, 1), (1, 1, 2), (2, 2, 2)]), _candles([(0, 10, 10), (1, 10, 10), (2, 10, 10)], "ETH/USDT")]
    )

    result = run_backtest(candles, _predictions({}), _FIVE_MINUTES, _FREE)

    assert result.strategy.trades.is_empty()
    assert result.buy_and_hold.trades["symbol"].to_list() == ["BTC/USDT", "ETH/USDT"]
    assert result.buy_and_hold.equity["equity"][-1] == pytest.approx(15_000)


def test_holding_borrows_nothing_for_a_symbol_that_comes_late() -> None:
    early = _candles([(0, 100, 100), (1, 100, 200), (2, 200, 200), (3, 200, 200), (4, 200, 200)])
    late = _candles([(2, 10, 10), (3, 10, 10), (4, 10, 10)], "ETH/USDT")

    result = run_backtest(pl.concat([early, late]), _predictions({}), _FIVE_MINUTES, _FREE)

    assert result.buy_and_hold.equity["cash"].to_list() == pytest.approx([10_000, 5_000, 5_000, 0, 15_000])


def test_an_account_without_equity_takes_no_side() -> None:
    everything = _FREE.model_copy(update={"equity_fraction": 1.0, "maintenance_margin": None})
    bars = [(0, 100, 100), (1, 100, 100), (2, 300, 300), (3, 300, 300), (4, 300, 200), (5, 200, 100)]

    result = _run(bars, {0: 0.4, 1: 0.4, 2: 0.9, 3: 0.9, 4: 0.9}, everything)

    assert result.strategy.trades["side"].to_list() == ["short"]
    assert _bar_of(result, "exit_ts") == [3]
    assert result.strategy.equity["equity"].to_list() == [10_000, 10_000, -10_000, -10_000, -10_000, -10_000]
    assert result.strategy.equity["exposure"].to_list() == [0, 1, None, 0, 0, 0]


def test_a_liquidated_account_is_closed_in_the_bar_that_ruined_it() -> None:
    everything = _FREE.model_copy(update={"equity_fraction": 1.0})
    bars = [(0, 100, 100), (1, 100, 100), (2, 150, 199.5), (3, 199.5, 100), (4, 100, 100)]

    result = _run(bars, {0: 0.4, 1: 0.4, 2: 0.4, 3: 0.5}, everything)

    # 50 of equity against a short of 19,950: less than 0.5 %. What is left is traded on.
    assert result.strategy.trades["exit_reason"].to_list() == ["liquidation", "signal"]
    assert _bar_of(result, "exit_ts") == [3, 4]
    assert result.strategy.equity["equity"].to_list()[2:4] == pytest.approx([50, 50 + 50 * 99.5 / 199.5])


def test_a_forecast_that_is_null_or_nan_or_outside_the_window_is_no_signal() -> None:
    predictions = pl.concat([_predictions({-1: 0.9, 1: float("nan"), 99: 0.9}), _predictions({0: 0.9}, "SOL/USDT")])
    missing = _predictions({0: 0.9}).with_columns(prob_up=pl.lit(None, pl.Float64))

    result = run_backtest(
        _candles([(bar, 100, 100) for bar in range(4)]), pl.concat([predictions, missing]), _FIVE_MINUTES, _FREE
    )

    assert result.strategy.trades.is_empty()


def test_thresholds_without_a_band_between_are_refused() -> None:
    with pytest.raises(ValidationError, match="expected short below long"):
        BacktestParameters(long_threshold=0.4, short_threshold=0.6)


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(price: float) -> None:
    with pytest.raises(DataQualityError, match="positive prices"):
        _run([(0, 1, 1), (1, price, 1)], {})
    with pytest.raises(DataQualityError, match="positive prices"):
        _run([(0, 1, 1), (1, 1, price)], {})


def test_two_forecasts_for_one_bar_are_refused() -> None:
    twice = pl.concat([_predictions({0: 0.9}), _predictions({0: 0.1})])

    with pytest.raises(DataQualityError, match="one prediction per symbol and time"):
        run_backtest(_candles([(0, 1, 1), (1, 1, 1)]), twice, _FIVE_MINUTES, _FREE)


def test_no_candles_and_double_candles_are_refused() -> None:
    with pytest.raises(DataQualityError, match="was none"):
        _run([], {})
    with pytest.raises(DataQualityError, match="one candle per symbol and time"):
        _run([(0, 1, 1), (0, 1, 1)], {})


_PRICES = st.floats(50, 150, allow_nan=False)
_SERIES = st.lists(st.tuples(_PRICES, _PRICES, st.floats(0, 1), st.booleans()), min_size=2, max_size=40)


def _market(series: list[tuple[float, float, float, bool]]) -> tuple[Bars, dict[int, float]]:
    """Bars with gaps (the flag) and a forecast for each."""
    bars = [(bar, opened, closed) for bar, (opened, closed, _, missing) in enumerate(series) if not missing or bar == 0]
    return bars, {bar: series[bar][2] for bar, _, _ in bars}


@given(_SERIES)
@settings(deadline=None, max_examples=40)
def test_money_is_neither_made_nor_lost_by_the_bookkeeping(series: list[tuple[float, float, float, bool]]) -> None:
    bars, probabilities = _market(series)

    result = _run(bars, probabilities)

    for account in (result.strategy, result.buy_and_hold):
        assert account.equity["equity"][-1] == pytest.approx(10_000 + account.trades["net_pnl"].sum())
        parts = account.trades["gross_pnl"] - account.trades["fees"] - account.trades["slippage_cost"]
        assert parts.to_list() == pytest.approx(account.trades["net_pnl"].to_list(), abs=1e-6)


def _books(account: Account, candles: pl.DataFrame, fee: float, symbol_closes: dict[str, float]) -> list[list[float]]:
    """Cash and equity at every close, from the trades and the candles alone."""
    books = []
    for (ts,), bars in candles.sort("ts").group_by("ts", maintain_order=True):
        symbol_closes |= dict(bars.select("symbol", "close").iter_rows())
        last = ts == candles["ts"].max()
        cash, held = 10_000.0, 0.0
        for trade in account.trades.iter_rows(named=True):
            side = 1 if trade["side"] == "long" else -1
            if trade["entry_ts"] > ts:
                continue
            cash -= (side + fee) * trade["quantity"] * trade["entry_price"]
            if trade["exit_ts"] <= ts or last:
                cash += (side - fee) * trade["quantity"] * trade["exit_price"]
            else:
                held += side * trade["quantity"] * symbol_closes[trade["symbol"]]
        books.append([cash, cash + held])
    return books


@given(_SERIES, _SERIES)
@settings(deadline=None, max_examples=40)
def test_cash_and_positions_are_the_equity_at_every_bar(
    first: list[tuple[float, float, float, bool]], second: list[tuple[float, float, float, bool]]
) -> None:
    (bars, probabilities), (others, beliefs) = _market(first), _market(second)
    candles = pl.concat([_candles(bars), _candles(others, "ETH/USDT")])
    predictions = pl.concat([_predictions(probabilities), _predictions(beliefs, "ETH/USDT")])

    result = run_backtest(candles, predictions, _FIVE_MINUTES, BacktestParameters())

    for account in (result.strategy, result.buy_and_hold):
        books = _books(account, candles, 0.0015, {})
        assert account.equity["cash"].to_list() == pytest.approx([cash for cash, _ in books], abs=1e-6)
        assert account.equity["equity"].to_list() == pytest.approx([equity for _, equity in books], abs=1e-6)


@given(_SERIES, st.floats(0, 0.01), st.floats(0, 0.01), st.floats(0, 0.01), st.floats(0, 0.01))
@settings(deadline=None, max_examples=40)
def test_higher_costs_never_raise_the_final_equity(
    series: list[tuple[float, float, float, bool]], fee: float, more_fee: float, slippage: float, more_slippage: float
) -> None:
    bars, probabilities = _market(series)

    cheap = _run(bars, probabilities, BacktestParameters(taker_fee=fee, slippage=slippage))
    dear = _run(bars, probabilities, BacktestParameters(taker_fee=fee + more_fee, slippage=slippage + more_slippage))

    assert dear.strategy.equity["equity"][-1] <= cheap.strategy.equity["equity"][-1] + 1e-6


@given(_SERIES)
@settings(deadline=None, max_examples=40)
def test_no_fill_comes_before_the_close_of_the_bar_that_asked_for_it(
    series: list[tuple[float, float, float, bool]],
) -> None:
    bars, probabilities = _market(series)

    result = _run(bars, probabilities)

    opens = {bar: opened for bar, opened, _ in bars}
    numbers = sorted(opens)
    for side, entry, price in zip(
        result.strategy.trades["side"],
        _bar_of(result, "entry_ts"),
        result.strategy.trades["entry_price"],
        strict=True,
    ):
        signal = numbers[numbers.index(entry) - 1]
        assert signal < entry
        assert (probabilities[signal] >= 0.55) if side == "long" else (probabilities[signal] <= 0.45)
        assert price == pytest.approx(opens[entry] * (1.0005 if side == "long" else 0.9995))


@given(_SERIES, st.integers(1, 39), _PRICES)
@settings(deadline=None, max_examples=40)
def test_the_future_changes_no_earlier_fill_and_no_earlier_equity(
    series: list[tuple[float, float, float, bool]], cut: int, other: float
) -> None:
    bars, probabilities = _market(series)
    changed = [(bar, opened, closed) if bar < cut else (bar, other, other) for bar, opened, closed in bars]

    before, after = _run(bars, probabilities), _run(changed, probabilities)

    earlier = pl.col("exit_ts").dt.epoch("ms") < _START + cut * _STEP
    assert before.strategy.trades.filter(earlier).equals(after.strategy.trades.filter(earlier))
    # The last bar is left out: what is open is closed there.
    known = sum(1 for bar, _, _ in bars if bar < cut) - (cut >= len(series))
    assert before.strategy.equity["equity"][: max(0, known - 1)].equals(
        after.strategy.equity["equity"][: max(0, known - 1)]
    )


@given(_SERIES, st.floats(0, 0.01), st.floats(0, 0.01))
@settings(deadline=None, max_examples=40)
def test_no_price_change_and_no_cost_leave_the_equity_as_it_was(
    series: list[tuple[float, float, float, bool]], fee: float, slippage: float
) -> None:
    flat = [(100.0, 100.0, probability, missing) for _, _, probability, missing in series]
    bars, probabilities = _market(flat)

    free = _run(bars, probabilities, _FREE)
    costly = _run(bars, probabilities, BacktestParameters(taker_fee=fee, slippage=slippage))

    assert free.strategy.equity["equity"].to_list() == pytest.approx([10_000.0] * len(bars))
    assert costly.strategy.equity["equity"][-1] <= 10_000.0 + 1e-6
