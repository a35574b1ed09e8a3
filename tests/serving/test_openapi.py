"""The description of the API: every endpoint and every answer has an example, and each fits its model."""

from typing import Any

import pytest
from pydantic import BaseModel

from levibot_serving import (
    contract,
    contract_analytics,
    contract_backtests,
    contract_control,
    contract_explanation,
    contract_features,
    contract_forecasts,
)
from levibot_serving.config import ServingSettings
from levibot_serving.main import create_app

CONTRACT = (
    contract,
    contract_analytics,
    contract_backtests,
    contract_control,
    contract_explanation,
    contract_features,
    contract_forecasts,
)
METHODS = {"get", "post"}


@pytest.fixture
def schema(settings: ServingSettings) -> dict[str, Any]:
    return create_app(settings).openapi()


def operations(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, item in schema["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def examples_of(schema: dict[str, Any], media: dict[str, Any]) -> list[Any]:
    """Examples beside a schema, in it, or, of a list, of what it lists."""
    if "example" in media:
        return [media["example"]]
    found = media.get("schema", {})
    if found.get("type") == "array":
        return [[example] for example in examples_of(schema, {"schema": found["items"]})]
    if "$ref" in found:
        found = schema["components"]["schemas"][found["$ref"].rpartition("/")[2]]
    return list(found.get("examples", ()))


def test_every_endpoint_is_explained_and_every_answer_has_an_example(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        assert operation.get("description"), name
        for status, response in operation["responses"].items():
            for kind, media in response["content"].items():
                assert examples_of(schema, media), f"{name} {status} {kind}"
        body = operation.get("requestBody")
        assert body is None or examples_of(schema, body["content"]["application/json"]), name


def test_every_example_is_whole_and_fits_its_model() -> None:
    """On the models themselves: FastAPI leaves every null of an example out of the description."""
    models = {model for module in CONTRACT for model in vars(module).values() if _has_examples(model)}
    assert len(models) > 20
    for model in models:
        for example in model.model_config["json_schema_extra"]["examples"]:
            found = model.model_validate(example).model_dump(mode="json", by_alias=True)
            if model.model_config.get("extra") != "forbid":  # a request may leave out what has a default
                assert set(found) == set(example), model.__name__


def _has_examples(model: Any) -> bool:
    return (
        isinstance(model, type) and issubclass(model, BaseModel) and bool(model.model_config.get("json_schema_extra"))
    )


def test_an_error_has_one_shape_everywhere(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        for status, response in operation["responses"].items():
            if status.startswith(("4", "5")) and not name.endswith("/healthz"):
                reference = response["content"]["application/json"]["schema"]["$ref"]
                assert reference.endswith("/ErrorResponse"), f"{name} {status}"
