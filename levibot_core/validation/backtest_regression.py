"""Whether a backtest that was computed again is what it was: by its Sharpe ratio, or else bit by bit.

Nothing else has changed but the code and its libraries: rows, candles and model are the same bytes. Finding and
recomputing the backtest of a champion is `levibot_pipelines.champion_backtest`'s work.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

MAXIMUM_SHARPE_DROP: Final = 0.10
"""Share of the recorded Sharpe ratio that may be lost."""
SHOWN_DIFFERENCES: Final = 20

Rule = Literal["sharpe", "bits"]


class BacktestRecord(BaseModel):
    """A backtest as it was written down, or as it comes out now."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    sharpe: float | None = Field(description="Annualised, after costs; None without a trade or any variation")
    trades: int = Field(ge=0)
    total_return: float = Field(description="After costs, fraction")
    log_loss: float = Field(description="Of the calibrated forecasts on the test rows, nats")
    report: dict[str, Any] = Field(exclude=True, repr=False, description="All of it, as JSON: figures and every trade")


class RegressionVerdict(BaseModel):
    """What became of a backtest."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    rule: Rule = Field(description="`sharpe` where the recorded ratio is above 0, else `bits`")
    regressed: bool
    identical: bool = Field(description="Whether every figure and every trade that was recorded came out with its bits")
    sharpe_drop: float | None = Field(description="Share of the recorded ratio that is gone; None by the rule `bits`")
    found: str
    required: str
    differences: tuple[str, ...] = Field(description="What came out differently; the first ones")


def judge_regression(recorded: BacktestRecord, recomputed: BacktestRecord) -> RegressionVerdict:
    """Hold a backtest against its record.

    A drop by a share means something for a ratio above 0 alone. A champion that never traded, or lost money, has
    nothing to lose by that measure, and still has to be what was judged: then figures, trades and the log loss of the
    forecasts have to have the very bits that were recorded.
    """
    differences = tuple(islice(_differences(recorded, recomputed), SHOWN_DIFFERENCES))
    if recorded.sharpe is None or recorded.sharpe <= 0.0:
        return _by_bits(recorded, differences)
    # A ratio that is gone altogether (no trade, no variation any more) is a drop by all of it.
    drop = 1.0 if recomputed.sharpe is None else (recorded.sharpe - recomputed.sharpe) / recorded.sharpe
    now = "none: it does not trade any more" if recomputed.sharpe is None else f"{recomputed.sharpe:.4f}"
    return RegressionVerdict(
        rule="sharpe",
        regressed=drop > MAXIMUM_SHARPE_DROP,
        identical=not differences,
        sharpe_drop=drop,
        found=f"Sharpe ratio {recorded.sharpe:.4f} when it was judged, now {now} ({-drop:+.1%})",
        required=f"at most {MAXIMUM_SHARPE_DROP:.0%} less than when it was judged",
        differences=differences,
    )


def _by_bits(recorded: BacktestRecord, differences: Sequence[str]) -> RegressionVerdict:
    why = "it made no trade" if recorded.trades == 0 else f"its Sharpe ratio is {recorded.sharpe or 0.0:.4f}"
    came_out = f"{differences[0]}; {len(differences)} differences shown" if differences else "every bit is the same"
    return RegressionVerdict(
        rule="bits",
        regressed=bool(differences),
        identical=not differences,
        sharpe_drop=None,
        found=f"{why}, so a drop by a share means nothing; compared bit by bit: {came_out}",
        required="log loss, figures and trades with the bits that were recorded, as the Sharpe ratio is not above 0",
        differences=tuple(differences),
    )


def _differences(recorded: BacktestRecord, recomputed: BacktestRecord) -> Iterator[str]:
    if recorded.log_loss != recomputed.log_loss:
        yield f"log_loss: was {recorded.log_loss!r}, is {recomputed.log_loss!r}"
    for part in ("metrics", "trades"):
        yield from _unlike(part, recorded.report.get(part), recomputed.report.get(part))


def _unlike(path: str, was: Any, now: Any) -> Iterator[str]:
    """Leaves that differ. What only the newer report has was never recorded, and is no difference."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in was:
            if name in now:
                yield from _unlike(f"{path}.{name}", was[name], now[name])
    elif isinstance(was, list) and isinstance(now, list):
        if len(was) != len(now):
            yield f"{path}: were {len(was)}, are {len(now)}"
        for place, (before, after) in enumerate(zip(was, now, strict=False)):
            yield from _unlike(f"{path}[{place}]", before, after)
    elif was != now:
        yield f"{path}: was {was!r}, is {now!r}"
