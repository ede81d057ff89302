"""What Swagger UI (the page /docs) sends when somebody presses "Execute" and fills in nothing.

The page makes a sample of each schema and sends it: the first of its examples, else its default,
else a value made up from its type. Parameters of a path have no sample, and the page asks for them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

_MADE_UP: Mapping[str, object] = {"string": "string", "integer": 0, "number": 0, "boolean": True}


@dataclass(frozen=True)
class Operation:
    """An operation of the document."""

    document: Mapping[str, Any] = field(repr=False)
    method: str
    path: str
    spec: Mapping[str, Any] = field(repr=False)

    @property
    def media_types(self) -> list[str | None]:
        """The media types of its body that the page offers; None alone: it has no body."""
        return list(self.spec.get("requestBody", {}).get("content", {})) or [None]

    def request(
        self, client: httpx.Client, ids: Mapping[str, str], file: bytes, media_type: str | None
    ) -> httpx.Request:
        """Return the request that the page sends, its path's parameters and file filled in."""
        query, headers = {}, {}
        for parameter in self.spec.get("parameters", ()):
            value = self._offered(parameter)
            if parameter["in"] == "query" and value not in (None, "", []):
                query[parameter["name"]] = _written(value)
            if parameter["in"] == "header" and value not in (None, ""):
                headers[parameter["name"]] = _written(value)
        url = self.path.format(**ids)
        if media_type is None:
            return client.build_request(self.method, url, params=query, headers=headers)
        schema = self._resolved(self.spec["requestBody"]["content"][media_type]["schema"])
        if media_type == "multipart/form-data":
            fields = {
                name: _written(self.sample(each))
                for name, each in schema["properties"].items()
                if each.get("format") != "binary"
            }
            files = {"file": ("a.wav", file)}
            return client.build_request(self.method, url, params=query, data=fields, files=files)
        return client.build_request(
            self.method,
            url,
            params=query,
            content=_written(self.sample(schema)),
            headers={**headers, "Content-Type": media_type},
        )

    def sample(self, schema: Mapping[str, Any]) -> Any:
        """Return what the page makes of a schema."""
        schema = self._resolved(schema)
        if schema.get("examples"):
            return schema["examples"][0]
        for known in ("default", "example", "const"):
            if known in schema:
                return schema[known]
        for choice in (*schema.get("anyOf", ())[:1], *schema.get("oneOf", ())[:1]):
            own = {name: schema[name] for name in schema.keys() - {"anyOf", "oneOf"}}
            return self.sample({**self._resolved(choice), **own})
        if "enum" in schema:
            return schema["enum"][0]
        match schema.get("type"):
            case "object":
                made = {
                    name: self.sample(each) for name, each in schema.get("properties", {}).items()
                }
                return made | (
                    {"additionalProp1": {}} if schema.get("additionalProperties") else {}
                )
            case "array":
                return [self.sample(schema["items"])]
            case kind:
                return _MADE_UP[kind or "string"]

    def _offered(self, parameter: Mapping[str, Any]) -> Any:
        """Return what the page puts into a parameter's box; None where it leaves it empty."""
        contents = parameter.get("content", {"": parameter})
        schema = self._resolved(next(iter(contents.values()))["schema"])
        if parameter.get("examples"):
            return next(iter(parameter["examples"].values()))["value"]
        return parameter.get("example", schema.get("example", schema.get("default")))

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in schema:
            return schema
        name = schema["$ref"].rpartition("/")[2]
        found: Mapping[str, Any] = self.document["components"]["schemas"][name]
        return found


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Yield all operations of a document; those that remove things come last."""
    found = [
        Operation(document, method, path, spec)
        for path, methods in document["paths"].items()
        for method, spec in methods.items()
    ]
    yield from sorted(found, key=lambda operation: operation.method == "delete")


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
