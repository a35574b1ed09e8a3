"""The API's reference, which needs nothing from outside and leaves nothing out."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from levibot_serving.config import ServingSettings
from levibot_serving.console.api_reference import api_reference
from levibot_serving.main import create_app

pytestmark = pytest.mark.anyio

Console = Callable[..., httpx.AsyncClient]


async def test_the_reference_shows_every_endpoint_and_every_field(
    console: Console, read_page: Callable[[httpx.Response], Any]
) -> None:
    async with console() as client:
        page = read_page(await client.get("/docs"))
        document = (await client.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in page.text
            assert " ".join(operation["description"].split()) in page.text
    for name, shape in document["components"]["schemas"].items():
        assert any(attributes.get("id") == f"shape-{name}" for attributes in page.all("section"))
        for field, content in shape.get("properties", {}).items():
            assert field in page.text
            assert " ".join(content.get("description", "").split()) in page.text
    assert "Minutes; must be what the model forecasts" in page.text  # of a parameter that may be left out
    assert "curl -H \"Authorization: Bearer $TOKEN\" 'http://levibot/ai/predict?symbol=BTC/USDT'" in page.text


async def test_pages_that_would_load_from_elsewhere_are_not_there(console: Console) -> None:
    async with console() as client:
        for path in ("/redoc", "/docs/oauth2-redirect"):
            assert (await client.get(path)).status_code == 404


def test_types_read_in_words(settings: ServingSettings) -> None:
    reference = api_reference(create_app(settings).openapi(), "http://levibot")
    shapes = {shape.name: {value.name: value for value in shape.fields} for shape in reference.shapes}
    prediction = shapes["Prediction"]
    assert prediction["prob_up"].kind.text == "number"
    assert prediction["prob_up"].limits == "at least 0, at most 1"
    assert prediction["price_target"].kind.text == "number or null"
    assert prediction["side"].kind.text == '"long", "short" or "flat"'
    assert (prediction["components"].kind.text, prediction["components"].kind.shape) == (
        "list of MemberComponent",
        "MemberComponent",
    )
    assert prediction["timestamp"].kind.text == "time, ISO 8601"
    assert shapes["Models"]["meta"].kind.text == "object: name to ModelMeta"
    example = next(shape.example for shape in reference.shapes if shape.name == "Prediction")
    assert example is not None
    assert json.loads(example)["symbol"] == "BTC/USDT"


def test_bodies_and_hostile_words_are_shown_as_they_are() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    body = {"schema": {"$ref": "#/components/schemas/Kill"}, "examples": {"one": {"value": {"on": True}}}}
    document = {
        "info": {"title": "T", "version": "1"},
        "paths": {
            "/live/{kind}": {
                "post": {
                    "summary": hostile,
                    "parameters": [{"name": "kind", "in": "path", "required": True, "schema": {"const": "kill"}}],
                    "requestBody": {"content": {"application/json": body}},
                    "responses": {"204": {"description": "Done"}},
                }
            }
        },
        "components": {"schemas": {"Kill": {"properties": {"on": {"type": "boolean"}, "any": {}}}}},
    }
    reference = api_reference(document, "http://levibot")
    ((tag, (endpoint,)),) = reference.groups
    assert (tag, endpoint.key, endpoint.method) == ("other", "post-live-kind", "POST")
    assert endpoint.body is not None
    assert endpoint.body.shape == "Kill"
    assert json.loads(endpoint.example or "") == {"on": True}
    assert endpoint.curl.startswith("curl -X POST 'http://levibot/live/")  # whoever may call it without a token
    assert endpoint.curl.endswith("-d @body.json")
    assert endpoint.answers[0].kind is None
    assert [value.kind.text for value in reference.shapes[0].fields] == ["boolean", "anything"]
