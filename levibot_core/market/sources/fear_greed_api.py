"""The fear and greed index from its publisher, alternative.me. Optional: without it the index stays empty."""

import logging

import httpx
import polars as pl
from tenacity import (
    Retrying,
    before_sleep_log,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from levibot_core.market.sources.ccxt_client import RetryPolicy
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.schemas import FEAR_GREED, TIMESTAMP

PUBLISHER = "https://api.alternative.me"
_VENUE = "alternative.me"
_ATTEMPTS = 3
_log = logging.getLogger(__name__)


def fetch_fear_greed(
    start_ms: int, end_ms: int, now_ms: int, retry: RetryPolicy, base_url: str | None = None
) -> pl.DataFrame:
    """The index of days that start in [start_ms, end_ms) and have ended by `now_ms`, schema `FEAR_GREED`.

    Empty, with a warning in the log, when the publisher does not answer or answers something else.
    """
    address = f"{(base_url or PUBLISHER).rstrip('/')}/fng/"
    retrying = Retrying(
        stop=stop_after_attempt(min(_ATTEMPTS, retry.attempts)),
        wait=wait_exponential_jitter(
            multiplier=retry.first_wait_s, max=retry.longest_wait_s, jitter=retry.first_wait_s
        ),
        retry=retry_if_exception_type((httpx.HTTPError, ValueError)),
        before_sleep=before_sleep_log(_log, logging.INFO),
        reraise=True,
    )
    try:
        entries = retrying(_request, address, retry.request_timeout_s)
    except (httpx.HTTPError, ValueError) as error:
        _log.warning("The fear and greed index of %s stays empty: %s", address, error)
        return FEAR_GREED.empty()
    schema = {"ts": pl.Int64, "value": pl.Int32, "classification": pl.String}
    day = (pl.col("ts") - pl.col("ts") % MILLISECONDS_PER_DAY).alias("ts")
    days = pl.DataFrame(entries, schema=schema, orient="row").with_columns(day).unique("ts", keep="first")
    ended = days.with_columns((pl.col("ts") + MILLISECONDS_PER_DAY).alias("known_at")).filter(
        pl.col("ts") >= start_ms, pl.col("ts") < end_ms, pl.col("known_at") <= now_ms
    )
    instants = (pl.col("ts").cast(TIMESTAMP), pl.col("known_at").cast(TIMESTAMP))
    return FEAR_GREED.enforce(
        ended.with_columns(*instants, pl.lit(0, pl.Int32).alias("revision"), pl.lit(_VENUE).alias("venue"))
    )


def _request(address: str, timeout_s: float) -> list[tuple[int, int, str]]:
    """The published entries: start of the day (UTC ms), value, classification; newest first."""
    # As ccxt does, no proxy is taken from the environment.
    answer = httpx.get(address, params={"limit": 0, "format": "json"}, timeout=timeout_s, trust_env=False)
    answer.raise_for_status()
    try:
        return [
            (int(entry["timestamp"]) * 1000, int(entry["value"]), str(entry["value_classification"]))
            for entry in answer.json()["data"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected a list of days, was {answer.text[:80]!r}") from error
