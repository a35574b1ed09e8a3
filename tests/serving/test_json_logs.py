import json
import logging
import logging.config
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from levibot_serving.json_logs import LOG_CONFIG, JsonFormatter, current_request_id

Api = Callable[..., httpx.AsyncClient]


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(JsonFormatter().format(record))
    return line


def test_a_record_is_one_line_of_json_with_its_facts_and_its_traceback() -> None:
    try:
        raise ZeroDivisionError("of a test")
    except ZeroDivisionError as error:
        caught = (type(error), error, error.__traceback__)
    record = logging.LogRecord("levibot", logging.WARNING, __file__, 1, "%s\n%s", ("one", "two"), caught)
    record.facts = {"status": 503}
    token = current_request_id.set("engine-7")
    text = JsonFormatter().format(record)
    current_request_id.reset(token)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["logger"], line["message"]) == ("warning", "levibot", "one\ntwo")
    assert (line["status"], line["request_id"]) == (503, "engine-7")
    assert "ZeroDivisionError: of a test" in line["exception"]
    assert line["time"].endswith("+00:00")


def test_without_a_request_there_is_no_id() -> None:
    assert "request_id" not in line_of(logging.LogRecord("levibot", logging.INFO, __file__, 1, "started", (), None))


def test_the_configuration_for_uvicorn_can_be_used() -> None:
    config = json.loads(LOG_CONFIG.read_text("utf-8"))
    logging.config.DictConfigurator(config).configure_formatter(config["formatters"]["json"])
    assert set(config["loggers"]) == {"uvicorn", "uvicorn.access"}


@pytest.mark.anyio
async def test_requests_that_fail_are_logged_with_their_id_and_without_what_was_sent(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "levibot_serving.middleware"):
        async with api() as client:
            await client.get("/livez")
            await client.get("/ai/predict?symbol=secret")
            await client.get("/ai/predict?symbol=secret", headers={"Authorization": "Bearer secret"})
    lines = [line_of(record) for record in caplog.records if record.name == "levibot_serving.middleware"]
    assert [(line["endpoint"], line["status"]) for line in lines] == [("/ai/predict", 422), ("/ai/predict", 401)]
    assert lines[0]["duration_ms"] > 0
    assert "secret" not in json.dumps(lines)
