"""Objects as the `Table` that kubectl prints: one row each, a cell for each printer column of the kind."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from controller.objects.kind import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.objects.kind import JsonObject, Kind

_NAME = Column(
    "Name",
    format="name",
    json_path=".metadata.name",
    description="Name must be unique within a namespace.",
)
_AGE = Column(
    "Age",
    type="date",
    json_path=".metadata.creationTimestamp",
    description="CreationTimestamp is the server time when this object was created.",
)
_STEP = re.compile(
    r"""\.(?P<key>(?:[^.\[\]\\]|\\.)+)
      | \[\?\(@\.(?P<by>[^=!\s]+)\s*==\s*(?P<quote>["'])(?P<value>.*?)(?P=quote)\)\]
      | \[['"](?P<name>.*?)['"]\]
      | \[(?P<index>\d+)\]
      | (?P<all>\[\*\])""",
    re.VERBOSE,
)


def columns_of(kind: Kind) -> Sequence[Column]:
    """The columns of a kind: its name first; its age at the end where it names no columns of its own."""
    given = list(kind.columns) or [_AGE]
    return given if given[0].name == "Name" else [_NAME, *given]


def table(
    kind: Kind, objects: Sequence[JsonObject], metadata: JsonObject, include: str, now: datetime, *, head: bool = True
) -> JsonObject:
    """`metadata` is that of the list; `include` the query parameter includeObject. A watch has a `head` once only."""
    columns = columns_of(kind)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [_definition(column) for column in columns] if head else None,
        "rows": [_row(kind, columns, value, include, now) for value in objects],
    }


def _definition(column: Column) -> JsonObject:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


def _row(kind: Kind, columns: Sequence[Column], value: JsonObject, include: str, now: datetime) -> JsonObject:
    row: JsonObject = {"cells": [_cell(kind, column, value, now) for column in columns]}
    if include == "Object":
        row["object"] = value
    elif include != "None":
        row["object"] = partial(value)
    return row


def partial(value: JsonObject) -> JsonObject:
    """PartialObjectMetadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"]}


def _cell(kind: Kind, column: Column, value: JsonObject, now: datetime) -> str | float | bool | None:
    missing = None if kind.custom else "<none>"
    if column.cell is not None:
        found: Any = column.cell(value)
    else:
        matches = find(value, column.json_path)
        found = matches[0] if matches else None
    if found is None:
        return missing
    if column.type == "date":
        return _age(found, now)
    if column.type == "integer" and not isinstance(found, str):
        return int(found)
    if column.type in ("number", "boolean") and not isinstance(found, str):
        return found  # type: ignore[no-any-return] # a JSON scalar by the schema
    return _text(found)


def _text(found: object) -> str:
    if isinstance(found, str):
        return found
    return json.dumps(found, separators=(",", ":"))


def _age(text: object, now: datetime) -> str:
    try:
        seconds = int((now - datetime.fromisoformat(str(text))).total_seconds())
    except (ValueError, TypeError):
        return "<unknown>"
    return human_duration(seconds)


def human_duration(seconds: int) -> str:
    """`5s`, `3m20s`, `25h`, `2d4h`: the rounding of kubectl's own ages (k8s.io/apimachinery duration.HumanDuration)."""
    if seconds < -1:
        return "<invalid>"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    if minutes < 10:
        return _pair(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _pair(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _pair(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _pair(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit}{small}{small_unit}" if small else f"{large}{unit}"


def find(value: object, path: str) -> list[Any]:
    """What a JSON path of a printer column finds: fields, `[n]`, `[*]`, `['name']` and `[?(@.type=='x')]`.

    Raises ValueError for any other path.
    """
    found = [value]
    for step in _compile(path):
        found = [inner for each in found for inner in _step(each, step)]
    return [each for each in found if each is not None]


@lru_cache(maxsize=256)
def _compile(path: str) -> tuple[tuple[str, str, str], ...]:
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    text = text if text.startswith((".", "[")) else f".{text}"
    steps: list[tuple[str, str, str]] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise ValueError(f"{path!r}: cannot read the JSON path from {text[position:]!r}")
        position = match.end()
        if match["by"]:
            steps.append(("where", match["by"], match["value"]))
        elif match["index"]:
            steps.append(("index", match["index"], ""))
        elif match["all"]:
            steps.append(("all", "", ""))
        else:
            steps.append(("key", match["name"] or re.sub(r"\\(.)", r"\1", match["key"]), ""))
    return tuple(steps)


def _step(value: object, step: tuple[str, str, str]) -> Sequence[Any]:
    how, name, wanted = step
    match value:
        case dict() if how == "key":
            return [value[name]] if name in value else []
        case dict() if how == "all":
            return list(value.values())
        case list() if how == "index":
            return value[int(name) : int(name) + 1]
        case list() if how == "all":
            return value
        case list() if how == "where":
            return [item for item in value if any(str(each) == wanted for each in find(item, f".{name}"))]
    return []


def timestamp(now: datetime) -> str:
    """A time as metadata has it: RFC 3339, UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
