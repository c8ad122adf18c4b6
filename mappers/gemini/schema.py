"""Google's `Schema`, a subset of OpenAPI 3.0 (ai.google.dev/api/caching#Schema), read as JSON Schema.

Written the other way is nothing: targets are told JSON Schema as it is (`parametersJsonSchema`, `responseJsonSchema`).
"""

from typing import Any

from .fields import camel_keys

_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
"""Of the type int64, which protocol-buffer JSON writes as text."""
_NOT_JSON_SCHEMA = ("nullable", "propertyOrdering", "example")
_SCHEMAS = ("properties", "$defs", "defs")
"""What holds schemas by name: the names are the user's own."""


def json_schema(value: Any) -> Any:
    """The JSON Schema that a `Schema` means; a schema that is JSON Schema already stays what it is."""
    if not isinstance(value, dict):
        return value
    schema = {name: _keyword(name, item) for name, item in camel_keys(value).items() if name not in _NOT_JSON_SCHEMA}
    if schema.get("type") == "type_unspecified":
        del schema["type"]
    if schema.get("format") == "enum":
        del schema["format"]
    return _nullable(schema) if camel_keys(value).get("nullable") is True else schema


def _keyword(name: str, value: Any) -> Any:
    if name == "type" and isinstance(value, str):
        return value.lower()
    if name in _COUNTS and isinstance(value, str) and value.isdecimal():
        return int(value)
    if name in _SCHEMAS and isinstance(value, dict):
        return {key: json_schema(item) for key, item in value.items()}
    if name in ("items", "additionalProperties"):
        return json_schema(value)
    if name in ("anyOf", "prefixItems") and isinstance(value, list):
        return [json_schema(item) for item in value]
    return value


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema says by the type that null is a value, too."""
    if isinstance(schema.get("enum"), list):
        schema["enum"] = [*schema["enum"], None]
    if isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    return schema
