"""One JSON object per line of log: time, level, logger, message, the id of the request, and facts for programs.

`log_config.json` beside this module sends the logs of the API and of uvicorn through it: `uvicorn --log-config`. What
is logged is the callers' business; nothing here looks at requests. Secrets have no business in messages or facts.
"""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

current_request_id: ContextVar[str | None] = ContextVar("current_request_id", default=None)
"""The id of the request that is being answered, in whatever thread or task works on it."""

LOG_CONFIG: Final = Path(__file__).with_name("log_config.json")
"""What `uvicorn --log-config` takes for JSON logs."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; `extra={"facts": {...}}` adds fields of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without an end."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = current_request_id.get()
        if request_id is not None:
            line["request_id"] = request_id
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
