"""The shapes of backtests: asked for, queued, made."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from levibot_serving.contract_forecasts import Symbol


class BacktestRequest(BaseModel):
    """A backtest of the champion on one symbol's newest days."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", json_schema_extra={"examples": [{"symbol": "BTC/USDT", "days": 30}]}
    )

    symbol: Symbol
    days: int = Field(30, ge=1, le=3650)
    fee_bps: float = Field(5.0, ge=0, le=1000, description="Of the notional of each fill, basis points")
    slippage_bps: float = Field(5.0, ge=0, le=1000, description="How much worse than the open a fill is, basis points")
    max_pos: float = Field(1.0, gt=0, le=1, description="Share of equity put into each trade")


class BacktestQueued(BaseModel):
    """A backtest that Dagster will run."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "ok": True,
                    "id": "b-3f6c0a7be2a94a0f",
                    "status": "queued",
                    "run_id": "8b1cf3c2-6d67-4d8e-9a43-0d1c2b3a4958",
                    "message": "Dagster runs it; GET /backtest/reports/b-3f6c0a7be2a94a0f has the report then.",
                }
            ]
        },
    )

    ok: bool = True
    id: str
    status: Literal["queued", "done"]
    run_id: str
    message: str


class BacktestFigures(BaseModel):
    """What a backtest earned, after costs; null where a figure is not defined."""

    model_config = ConfigDict(frozen=True)

    sharpe: float | None
    sortino: float | None
    max_drawdown: float | None
    win_rate: float | None
    ann_return: float | None
    total_trades: int


_REPORT: dict[str, Any] = {
    "id": "v7",
    "symbol": "BTC/USDT, ETH/USDT",
    "window": "2025-12-08 to 2026-01-02",
    "created_at": "2026-01-02T03:41:00Z",
    "status": "done",
    "metrics": {
        "sharpe": -0.4,
        "sortino": -0.5,
        "max_drawdown": -0.012,
        "win_rate": 0.47,
        "ann_return": -0.031,
        "total_trades": 19,
    },
    "links": {"json": "/backtest/reports/v7"},
}


class BacktestEntry(BaseModel):
    """One backtest, made or queued."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_REPORT]})

    id: str = Field(description="v<version> for the backtest of a version, b-<key> for one that was asked for here")
    symbol: str
    window: str
    created_at: datetime
    status: Literal["queued", "done"]
    metrics: BacktestFigures | None = Field(description="null until it is done")
    links: dict[str, str]


class BacktestReport(BacktestEntry):
    """One backtest with everything that is known of it."""

    model_config = ConfigDict(
        frozen=True, json_schema_extra={"examples": [{**_REPORT, "report": {"timeframe": "5m", "trades": []}}]}
    )

    report: dict[str, Any] | None = Field(description="Parameters, provenance, all figures, every trade")
