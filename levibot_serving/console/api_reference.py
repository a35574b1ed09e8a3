"""The API's reference for people, made of its OpenAPI document: every endpoint and every shape, as plain values.

Swagger UI is left out on purpose: it comes from a content network or with megabytes of script, and its styles need a
looser policy than a page that shares its origin with the kill switch should have. `curl` lines stand in for its forms.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

_METHODS = ("get", "post", "put", "patch", "delete")
_SHAPES = "#/components/schemas/"
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matches {}",
}


@dataclass(frozen=True, slots=True)
class Words:
    """A type in words; `shape` names the one it is made of, if any, so that a page can lead there."""

    text: str
    shape: str | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """A parameter or a field. `place` is `query`, `path`, `header` or empty for a field."""

    name: str
    place: str
    kind: Words
    required: bool
    default: str | None
    limits: str
    description: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One response of an endpoint."""

    status: str
    description: str
    media_type: str | None
    kind: Words | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation.

    Attributes:
        key: Name for the address of its entry on the page.
        curl: A line for a shell.
        body: Shape of the request's body; None without one.
        example: Of the body that is sent, as JSON; None where the document has none.
    """

    key: str
    method: str
    path: str
    summary: str
    description: str
    parameters: tuple[Value, ...]
    body: Words | None
    example: str | None
    answers: tuple[Answer, ...]
    curl: str


@dataclass(frozen=True, slots=True)
class Shape:
    """One schema: its fields, and an example as JSON where the document has one."""

    name: str
    description: str
    fields: tuple[Value, ...]
    example: str | None


@dataclass(frozen=True, slots=True)
class ApiReference:
    """The whole; `groups` are endpoints by tag, in the order of the document."""

    title: str
    version: str
    summary: str
    groups: tuple[tuple[str, tuple[Endpoint, ...]], ...]
    shapes: tuple[Shape, ...]


def api_reference(document: Mapping[str, Any], address: str) -> ApiReference:
    """Read an OpenAPI 3.1 document, as FastAPI makes it.

    Args:
        document: The document.
        address: Where the API is reached, such as `http://127.0.0.1:8000`, for the `curl` lines.
    """
    groups: dict[str, list[Endpoint]] = {}
    for path, operations in document.get("paths", {}).items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                tag = next(iter(operation.get("tags", ())), "other")
                groups.setdefault(tag, []).append(_endpoint(path, method, operation, address))
    shapes = document.get("components", {}).get("schemas", {})
    about = document["info"]
    return ApiReference(
        title=about["title"],
        version=about["version"],
        summary=about.get("summary", ""),
        groups=tuple((tag, tuple(endpoints)) for tag, endpoints in groups.items()),
        shapes=tuple(_shape(name, shapes[name]) for name in sorted(shapes)),
    )


def _endpoint(path: str, method: str, operation: Mapping[str, Any], address: str) -> Endpoint:
    parameters = tuple(
        _value(item["name"], item["in"], item["schema"], item.get("required", False), item.get("description"))
        for item in operation.get("parameters", ())
    )
    media_type, content = _content(operation.get("requestBody", {}))
    example = _example(content) or _example(content.get("schema", {}))
    return Endpoint(
        key=f"{method}-{path.strip('/').replace('/', '-').replace('{', '').replace('}', '') or 'root'}",
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        description=operation.get("description", ""),
        parameters=parameters,
        body=None if media_type is None else _words(content.get("schema", {})),
        example=example,
        answers=tuple(_answer(status, answer) for status, answer in sorted(operation.get("responses", {}).items())),
        curl=_curl(path, method, operation, media_type, address),
    )


def _answer(status: str, answer: Mapping[str, Any]) -> Answer:
    media_type, content = _content(answer)
    schema = content.get("schema")
    return Answer(status, answer.get("description", ""), media_type, _words(schema) if schema else None)


def _content(part: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """The first media type and what the document says of it."""
    return next(iter(part.get("content", {}).items()), (None, {}))


def _curl(path: str, method: str, operation: Mapping[str, Any], media_type: str | None, address: str) -> str:
    parameters = operation.get("parameters", ())
    asked = {item["name"]: _sample(item) for item in parameters if item["in"] == "query" and item.get("required")}
    query = f"?{urlencode(asked, safe='/')}" if asked else ""
    verb = "" if method == "get" else f"-X {method.upper()} "
    token = '-H "Authorization: Bearer $TOKEN" ' if operation.get("security") else ""
    body = "" if media_type is None else f" -H 'Content-Type: {media_type}' -d @body.json"
    return f"curl {verb}{token}'{address}{path}{query}'{body}"


def _sample(parameter: Mapping[str, Any]) -> str:
    schema = parameter["schema"]
    examples = schema.get("examples") or [schema.get("default", parameter["name"].upper())]
    return str(examples[0])


def _shape(name: str, schema: Mapping[str, Any]) -> Shape:
    needed = schema.get("required", ())
    fields = tuple(
        _value(field, "", content, field in needed, content.get("description"))
        for field, content in schema.get("properties", {}).items()
    )
    return Shape(name, schema.get("description", ""), fields, _example(schema))


def _value(name: str, place: str, schema: Mapping[str, Any], required: bool, description: str | None) -> Value:
    default = json.dumps(schema["default"]) if "default" in schema else None
    variants = [schema, *schema.get("anyOf", ())]
    limits = [words.format(_short(part[key])) for part in variants for key, words in _LIMITS.items() if key in part]
    text = description or next((part["description"] for part in variants if "description" in part), "")
    return Value(name, place, _words(schema), required, default, ", ".join(dict.fromkeys(limits)), text)


def _words(schema: Mapping[str, Any]) -> Words:
    """A schema in words, such as `number or null`, `list of Prediction`, `"long", "short" or "flat"`."""
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(_SHAPES)
        return Words(name, name)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            parts = [_words(part) for part in schema[several]]
            shape = next((part.shape for part in parts if part.shape), None)
            return Words(" or ".join(part.text for part in parts), shape)
    if "const" in schema:
        return Words(json.dumps(schema["const"]))
    if "enum" in schema:
        return Words(_either([json.dumps(value) for value in schema["enum"]]))
    return _plain(schema)


def _plain(schema: Mapping[str, Any]) -> Words:
    kind = schema.get("type", "anything")
    if kind == "array":
        items = schema.get("items") or {}
        inner = _words(items) if items else Words("anything")
        return Words(f"list of {inner.text}", inner.shape)
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        inner = _words(schema["additionalProperties"])
        return Words(f"object: name to {inner.text}", inner.shape)
    if kind == "string" and "format" in schema:
        return Words({"date-time": "time, ISO 8601"}.get(schema["format"], f"string ({schema['format']})"))
    return Words(str(kind))


def _short(limit: object) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _example(holder: Mapping[str, Any]) -> str | None:
    """The first example that a schema or a media type has, as JSON; both ways of writing them are known."""
    found = holder.get("example")
    examples = holder.get("examples")
    if isinstance(examples, list) and examples:
        found = examples[0]
    elif isinstance(examples, dict) and examples:
        found = next(iter(examples.values())).get("value")
    return None if found is None else json.dumps(found, indent=2, ensure_ascii=False)
