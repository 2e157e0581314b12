"""The body of a server-side apply: a configuration in YAML, which JSON is too (kubectl sends that)."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import msgspec

from controller.embedded.calls import Parsed, read_json
from controller.embedded.status import ApiError, bad_request

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_configuration(body: bytes) -> Parsed:
    """The configuration in a body; `duplicates` say in which lines a key stands again. Raises ApiError 400."""
    try:
        parsed = read_json(body)
    except ApiError:
        parsed = Parsed(_read_yaml(body), ["?"])
    value = {} if parsed.value is None else parsed.value
    if not isinstance(value, dict):
        raise bad_request(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal "
            f"{_json_type(value)} into Go value of type map[string]interface {{}}"
        )
    return Parsed(value, list(_repeated(body)) if parsed.duplicates else ())


def strict_error(duplicates: list[str]) -> ApiError:
    """400: with fieldValidation=Strict a key may stand once only."""
    lines = "\n  ".join(["yaml: unmarshal errors:", *duplicates])
    return bad_request(f"error strict decoding YAML: error converting YAML to JSON: {lines}")


def _read_yaml(body: bytes) -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415 - 50 ms that hardly anybody needs
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415 - as above

    reader = YAML(typ="safe", pure=True)
    reader.allow_duplicate_keys = True
    try:
        value = _json_value(reader.load(body))
        msgspec.json.encode(value)
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        raise bad_request(f"error decoding YAML: {' '.join(str(error).split())}") from error
    return value


def _json_value(value: Any) -> Any:
    """What YAML knows and JSON does not becomes text: dates, and keys that are numbers."""
    if isinstance(value, dict):
        return {name if isinstance(name, str) else _key(name): _json_value(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_json_value(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.isoformat() if isinstance(value, date) else value


def _key(name: object) -> str:
    if isinstance(name, bool):
        return str(name).lower()
    return str(name)


def _json_type(value: object) -> str:
    return {list: "array", str: "string", bool: "bool"}.get(type(value), "number")


def _repeated(body: bytes) -> Iterator[str]:
    from ruamel.yaml import YAML  # noqa: PLC0415 - as above
    from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode  # noqa: PLC0415 - as above

    def search(node: Any) -> Iterator[str]:
        if isinstance(node, SequenceNode):
            for each in node.value:
                yield from search(each)
        elif isinstance(node, MappingNode):
            seen = set()
            for key, each in node.value:
                if isinstance(key, ScalarNode) and key.value in seen:
                    yield f'line {key.start_mark.line + 1}: key "{key.value}" already set in map'
                seen.add(key.value if isinstance(key, ScalarNode) else None)
                yield from search(each)

    return search(YAML(pure=True).compose(body.decode()))
