"""Backtests: asking Dagster for one, once per idempotency key, and reading the reports that were made.

    <home>/reports/backtests/v7.json           of a version, written when it was registered
    <home>/reports/backtests/b-<key>.json      of one that was asked for here
    <home>/reports/backtests/requests/b-<key>.json   what was asked for, and the run that Dagster gave it

What a backtest computes is `levibot_core.backtest`'s work.
"""

import hashlib
import json
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from levibot_core.stores.files import write_text_atomically
from levibot_core.stores.paths import Home, not_writable
from levibot_serving.contract_backtests import (
    BacktestEntry,
    BacktestFigures,
    BacktestQueued,
    BacktestReport,
    BacktestRequest,
)
from levibot_serving.dagster_client import DagsterClient
from levibot_serving.errors import ApiError

JOB: Final = "backtest_on_request"
TAG: Final = "levibot/backtest_id"
_ID: Final = re.compile(r"v[1-9][0-9]{0,9}|b-[0-9a-f]{16}")
_PATIENCE_S = 15.0


class _Queued(BaseModel):
    """What is kept of a request."""

    model_config = ConfigDict(frozen=True)

    request: BacktestRequest
    run_id: str
    queued_at: datetime


class Backtests:
    """The backtests of one home. Several processes may share it."""

    def __init__(self, home: Home, dagster: DagsterClient) -> None:
        self._folder = home.backtests
        self._dagster = dagster

    def queue(self, request: BacktestRequest, key: str | None, actor: str) -> BacktestQueued:
        """Queue a backtest in Dagster; the same key again gives the same backtest, and no second run.

        Raises:
            ApiError: 409, the key belongs to another request.
            DagsterUnavailableError: it could not be queued; nothing is kept.
            HomeNotWritableError: it was queued and could not be kept; the same key finds it again.
        """
        identity = _identity(key or uuid.uuid4().hex)
        path = self._folder / "requests" / f"{identity}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(".lock"), timeout=_PATIENCE_S):
                queued = self._kept(path) or self._launch(path, identity, request, actor)
        except Timeout:
            raise ApiError(503, "busy", "Expected Dagster to be free, but others are asking it. Try again.") from None
        except OSError as error:
            raise not_writable(path, error) from error
        if queued.request != request:
            raise ApiError(
                409,
                "idempotency_key_reused",
                "Expected the request that the Idempotency-Key was first sent with, was another. Send a new key.",
            )
        done = (self._folder / f"{identity}.json").is_file()
        return BacktestQueued(
            id=identity,
            status="done" if done else "queued",
            run_id=queued.run_id,
            message=f"Dagster runs it; GET /backtest/reports/{identity} has the report then.",
        )

    def entries(self) -> list[BacktestEntry]:
        """Every backtest that was made or asked for, newest first."""
        made = {path.stem: path for path in self._folder.glob("*.json") if _ID.fullmatch(path.stem)}
        asked = {path.stem: path for path in (self._folder / "requests").glob("b-*.json") if path.stem not in made}
        found = [entry for name, path in made.items() if (entry := _made(name, path)) is not None]
        found += [_asked(name, kept) for name, path in asked.items() if (kept := self._kept(path)) is not None]
        return sorted(found, key=lambda entry: entry.created_at, reverse=True)

    def report(self, identity: str) -> BacktestReport:
        """One backtest, with its report when it is done.

        Raises:
            ApiError: 404, there is none of that id.
        """
        if _ID.fullmatch(identity):
            path = self._folder / f"{identity}.json"
            entry = _made(identity, path)
            if entry is not None:
                return BacktestReport(**entry.model_dump(), report=_content(path))
            kept = self._kept(self._folder / "requests" / f"{identity}.json")
            if kept is not None:
                return BacktestReport(**_asked(identity, kept).model_dump(), report=None)
        raise ApiError(404, "unknown_backtest", "Expected the id of a backtest; GET /backtest/reports lists them.")

    def _kept(self, path: Path) -> _Queued | None:
        try:
            return _Queued.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None

    def _launch(self, path: Path, identity: str, request: BacktestRequest, actor: str) -> _Queued:
        # A process that was killed after it queued the run has left it in Dagster.
        run_id = self._dagster.find(TAG, identity)
        if run_id is None:
            config = {"ops": {JOB: {"config": {"backtest_id": identity, **request.model_dump()}}}}
            run_id = self._dagster.launch(JOB, config, {TAG: identity, "levibot/actor": actor})
        queued = _Queued(request=request, run_id=run_id, queued_at=datetime.now(UTC))
        write_text_atomically(path, queued.model_dump_json(indent=2) + "\n")
        return queued


def _identity(key: str) -> str:
    return f"b-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _content(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


def _made(name: str, path: Path) -> BacktestEntry | None:
    """A report that was written; None where there is none, or one that cannot be understood."""
    try:
        content = _content(path)
        strategy = content["metrics"]["strategy"]
        return BacktestEntry(
            id=name,
            symbol=", ".join(content["symbols"]),
            window=f"{content['start'][:10]} to {content['end'][:10]}",
            created_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
            status="done",
            metrics=BacktestFigures(
                sharpe=strategy["sharpe"],
                sortino=strategy["sortino"],
                max_drawdown=strategy["max_drawdown"],
                win_rate=strategy["hit_rate"],
                ann_return=strategy["annualised_return"],
                total_trades=strategy["trades"],
            ),
            links=_links(name),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _asked(name: str, queued: _Queued) -> BacktestEntry:
    return BacktestEntry(
        id=name,
        symbol=queued.request.symbol,
        window=f"newest {queued.request.days} days",
        created_at=queued.queued_at,
        status="queued",
        metrics=None,
        links=_links(name),
    )


def _links(name: str) -> dict[str, str]:
    return {"json": f"/backtest/reports/{name}"}
