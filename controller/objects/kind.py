"""What an API server must know of a kind: its names, schema and columns, and the hooks that admit an object."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object as `json.loads` returns it. `Any`: what is inside is only known after the schema was checked."""

EMPTY: Mapping[str, Any] = MappingProxyType({})


class ObjectKey(NamedTuple):
    """Where an object stands: its kind, namespace ("" for cluster scope) and name."""

    group: str
    kind: str
    namespace: str
    name: str


class Denied(Exception):
    """An object was refused on admission, before it was stored.

    `message` is the whole text for the user, `code` and `reason` those of the Status (400 BadRequest for a webhook).
    """

    def __init__(self, message: str, code: int = 400, reason: str = "BadRequest") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column. `type` and `format` as in a CRD (`string`, `date`, ...); priority above 0 shows with `-o wide`.

    The cell is what the JSON path finds, or what `cell` returns where a path cannot say it (core kinds).
    """

    name: str
    type: str = "string"
    json_path: str = ""
    format: str = ""
    description: str = ""
    priority: int = 0
    cell: Callable[[JsonObject], str | int | bool | None] | None = None


def keep(new: JsonObject, old: JsonObject | None) -> JsonObject:  # noqa: ARG001 - the signature of the hook
    """The defaulting hook of a kind without defaults."""
    return new


def accept(new: JsonObject, old: JsonObject | None) -> None:
    """The validation hook of a kind without rules beyond its schema."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind at one version.

    `schema` is its OpenAPI v3 schema (metadata aside). `custom` kinds behave as custom resources do (pruning, no
    strategic merge patch, null cells), the others as core kinds. `default(new, old)` returns the object with defaults
    (it may change `new` in place), `validate(new, old)` raises Denied; `old` is None on create. `field_selectors` names
    the JSON paths that `fieldSelector` may use beside metadata.name and metadata.namespace. `stored` is False for a kind
    whose objects come from elsewhere: the embedded API then asks its source instead of its own store.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    schema: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    namespaced: bool = True
    custom: bool = True
    status: bool = False
    categories: Sequence[str] = ()
    short_names: Sequence[str] = ()
    columns: Sequence[Column] = ()
    default: Callable[[JsonObject, JsonObject | None], JsonObject] = keep
    validate: Callable[[JsonObject, JsonObject | None], None] = accept
    field_selectors: Sequence[str] = ()
    stored: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`brokers.eventing.knative.dev`, or `services` in the core group: how messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural
