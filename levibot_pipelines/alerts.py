"""Alerts: kept in a log of the home, and posted to a webhook where one is set.

Raising an alert never fails for want of a listener: what goes wrong with its delivery is in the log beside it. When to
raise one is the business of those who do: `.regression_guard`, `.shadow`, the sensor of failed runs.
"""

import json
import logging
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from levibot_core.config import Settings
from levibot_core.errors import ConfigurationError
from levibot_core.stores.files import append_json_line
from levibot_core.stores.paths import Home

ATTEMPTS: Final = 4
DELIVERED, NO_LISTENER = "delivered", "no webhook is set"
_TIMEOUT_SECONDS = 5.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 8.0
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


class Alert(BaseModel):
    """Something a person should look at."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    time: AwareDatetime = Field(description="When it was raised, UTC")
    source: str = Field(min_length=1, description="What raised it, such as `regression_guard`")
    title: str = Field(min_length=1, description="One line")
    text: str = Field(description="What was found, and what to do")
    details: dict[str, JsonValue] = Field(default_factory=dict, description="Figures; never a secret")
    delivery: str = Field(NO_LISTENER, description="`delivered`, or why it was not")


def raise_alert(
    settings: Settings, home: Home, source: str, title: str, text: str, details: Mapping[str, JsonValue] | None = None
) -> Alert:
    """Tell whoever listens, and keep the alert with what became of it.

    Args:
        settings: Where the address of the webhook is.
        home: Where the log is.
        source: What raises it.
        title: One line.
        text: What was found, and what to do.
        details: Figures; no secret belongs here.

    Raises:
        HomeNotWritableError: the alert cannot be kept. It was posted all the same.
    """
    alert = Alert(time=datetime.now(UTC), source=source, title=title, text=text, details=dict(details or {}))
    alert = alert.model_copy(update={"delivery": _deliver(settings, home, alert)})
    append_json_line(home.alerts, alert.model_dump(mode="json"))
    return alert


def read_alerts(home: Home) -> list[Alert]:
    """Every alert there is, oldest first; a line that a killed writer left unfinished is left out."""
    found = []
    for line in home.alerts.read_text("utf-8").splitlines() if home.alerts.exists() else []:
        try:
            found.append(Alert.model_validate_json(line))
        except ValidationError:
            continue
    return found


def webhook_address(settings: Settings, home: Home) -> str | None:
    """The address that alerts are posted to; None where none is set.

    Raises:
        ConfigurationError: others may read its file, or there is no usable address in it.
    """
    path = settings.alert_webhook_file or home.alert_webhook
    if not path.exists():
        if settings.alert_webhook_file is None:
            return None
        raise ConfigurationError(f"Expected the address of a webhook in {path}, but there is no such file. Write it.")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OF_OTHERS:
        raise ConfigurationError(
            f"Expected {path} to be its owner's alone, was mode {mode:o}: whoever knows the address can post to it. "
            f"chmod 600 {path}"
        )
    address = path.read_text("utf-8").strip()
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _THIS_MACHINE):
        raise ConfigurationError(
            f"Expected an https:// address in {path} (http:// for this machine alone), was none. Write one, and "
            "nothing else."
        )
    return address


def _deliver(settings: Settings, home: Home, alert: Alert) -> str:
    """Post an alert, several times if need be; says what became of it, without the address, which is a secret."""
    try:
        address = webhook_address(settings, home)
        if address is None:
            return NO_LISTENER
        attempts = Retrying(
            retry=retry_if_exception_type((httpx.TransportError, _BusyError)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential_jitter(
                multiplier=_FIRST_WAIT_SECONDS, max=_LONGEST_WAIT_SECONDS, jitter=_FIRST_WAIT_SECONDS
            ),
        )
        return attempts(_post, address, alert)
    except RetryError as error:
        cause = error.last_attempt.exception()
        return f"failed {ATTEMPTS} times, at last with {_told(cause)}"
    except (ConfigurationError, OSError, UnicodeDecodeError) as error:
        return f"failed: {error}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"failed: {_told(error)}"


class _BusyError(Exception):
    """The listener asks to try again."""


def _post(address: str, alert: Alert) -> str:
    # At its usual level this library logs every address it posts to, and this one is a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # `text` is what chat servers show; the rest is for programs.
    body = {**alert.model_dump(mode="json", exclude={"delivery"}), "text": f"{alert.title}\n{alert.text}"}
    answer = httpx.post(
        address,
        content=json.dumps(body),
        headers={"content-type": "application/json"},
        timeout=_TIMEOUT_SECONDS,
        follow_redirects=False,
    )
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
        raise _BusyError(f"the answer {answer.status_code}")
    return DELIVERED if answer.is_success else f"failed: the webhook answered {answer.status_code}"


def _told(error: BaseException | None) -> str:
    """What went wrong, without the address that messages of the library may name."""
    return str(error) if isinstance(error, _BusyError) else type(error).__name__
