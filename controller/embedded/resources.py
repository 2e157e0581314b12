"""The verbs on stored resources: get, list, create, update, patch, delete, deletecollection."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from controller.embedded import status
from controller.embedded.admission import Decoded, admit_change, admit_new, decode, defaulted, read_applied
from controller.embedded.calls import delete_options, form_of, read_json, read_object, warned
from controller.embedded.configurations import read_configuration, strict_error
from controller.embedded.database import Key
from controller.embedded.field_managers import FieldManagers, settled
from controller.embedded.lifecycle import NAMESPACES, Lifecycle, is_terminating, new_namespace, permanent_namespaces
from controller.embedded.metadata import SCHEMA as METADATA
from controller.embedded.metadata import finalizer_warnings
from controller.embedded.openapi import patch_types
from controller.embedded.patch import json_patch, merge_patch, strategic_merge_patch
from controller.embedded.selectors import parse_selection
from controller.embedded.status import ApiError, Cause, bad_request, invalid
from controller.embedded.table import partial, table, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from controller.embedded.calls import Call, DeleteOptions
    from controller.embedded.registry import Registry
    from controller.embedded.selectors import Selection
    from controller.embedded.store import Entry, Store, Transaction
    from controller.objects.kind import JsonObject, Kind

T = TypeVar("T")

EVENTS = "events"
KEEP_EVENTS = 1000
"""How many core Events are kept, those changed last: nobody ever deletes one, and an API server lets them expire."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a JSON value with an HTTP status, and the texts of Warning headers."""

    body: JsonObject
    code: int = 200
    warnings: Sequence[str] = field(default=())


class Resources:
    """Stored objects behind the API. Reads come from memory; a write is one transaction of the store."""

    def __init__(self, registry: Registry, store: Store, clock: Callable[[], datetime]) -> None:
        self._registry = registry
        self._store = store
        self._clock = clock
        self._managers = FieldManagers(registry)

    async def prepare(self) -> None:
        """Make the permanent namespaces, if Namespace is among the kinds."""
        if self._registry.namespace is not None:
            now = timestamp(self._clock())
            await self._store.write(lambda transaction: permanent_namespaces(transaction, now))

    async def get(self, call: Call) -> Answer:
        entry = self._store.get(_key(call))
        if entry is None:
            raise status.not_found(call.kind, call.name)
        value = _shown(call.kind, entry)
        return Answer(present(call, value, self._clock()))

    async def list_(self, call: Call) -> Answer:
        selection = selection_of(call)
        revision = self._check_revision(call)
        limit, start, revision = _page_of(call, revision)
        entries = self._store.list(call.kind.resource, call.namespace)
        if start is not None:
            entries = [entry for entry in entries if (entry.key.namespace, entry.key.name) > start]
        items, rest = _take(call.kind, entries, selection, limit)
        metadata: JsonObject = {"resourceVersion": str(revision)}
        if rest:
            metadata["continue"] = _token(revision, items[-1])
            if not selection:
                metadata["remainingItemCount"] = rest
        return Answer(present_list(call, items, metadata, self._clock()))

    async def create(self, call: Call) -> Answer:
        call.check_options("CreateOptions")
        parsed = read_object(call.body, call.content_type)
        decoded = decode(call.kind, parsed.value, call.validation, parsed.duplicates)

        def decide(transaction: Transaction) -> JsonObject:
            self._track(call, None, decoded)
            return self._create(call, decoded, transaction)

        return await self._write(call, decoded.warnings, decide, 201)

    def _track(self, call: Call, old: JsonObject | None, decoded: Decoded) -> None:
        decoded.value = defaulted(call.kind, decoded.value, old)
        self._managers.track(call, old, decoded.value, timestamp(self._clock()))

    def _create(self, call: Call, decoded: Decoded, transaction: Transaction) -> JsonObject:
        kind = call.kind
        value = admit_new(kind, decoded.value, call.namespace, timestamp(self._clock()))
        metadata = value["metadata"]
        if kind is self._registry.namespace:
            value = new_namespace(value)
        elif kind.namespaced:
            self._check_namespace(kind, metadata, transaction)
        decoded.warnings.extend(finalizer_warnings(metadata))
        key = Key(kind.resource, call.namespace if kind.namespaced else "", metadata["name"])
        if transaction.get(key) is not None:
            raise status.already_exists(kind, metadata["name"])
        if kind.resource == EVENTS:
            self._forget_events(transaction)
        return transaction.put(key, value)

    def _forget_events(self, transaction: Transaction) -> None:
        entries = sorted(self._store.list(EVENTS), key=lambda entry: entry.revision)
        for entry in entries[: max(0, len(entries) - KEEP_EVENTS + 1)]:
            transaction.delete(entry.key, entry.decode())

    async def update(self, call: Call) -> Answer:
        call.check_options("UpdateOptions")
        parsed = read_object(call.body, call.content_type)
        decoded = decode(call.kind, parsed.value, call.validation, parsed.duplicates)
        metadata = decoded.value["metadata"]
        check_name(call, metadata)

        def decide(transaction: Transaction) -> JsonObject:
            old = _current(call, transaction)
            if call.kind.custom and not metadata.get("resourceVersion"):
                text = "Invalid value: 0x0: must be specified for an update"
                raise invalid(call.kind, call.name, [Cause("metadata.resourceVersion", "FieldValueInvalid", text)])
            self._track(call, old, decoded)
            return self._change(call, decoded, old, transaction)

        return await self._write(call, decoded.warnings, decide)

    async def patch(self, call: Call) -> Answer:
        call.check_options("PatchOptions")
        if call.content_type not in patch_types(call.kind):
            raise status.unsupported_media_type(patch_types(call.kind))
        if call.applies:
            return await self._apply(call)
        parsed = read_json(call.body)
        if call.content_type != "application/json-patch+json" and not isinstance(parsed.value, dict):
            raise bad_request("the patch must be a JSON object")
        warnings: list[str] = []

        def decide(transaction: Transaction) -> JsonObject:
            old = _current(call, transaction)
            patched = _patched(call, old, parsed.value)
            decoded = decode(call.kind, patched, call.validation, parsed.duplicates, patch=True)
            warnings.extend(decoded.warnings)
            decoded.warnings = warnings
            self._track(call, old, decoded)
            return self._change(call, decoded, old, transaction)

        return await self._write(call, warnings, decide)

    async def _apply(self, call: Call) -> Answer:
        config = read_configuration(call.body)
        warnings = list(config.duplicates) if call.validation != "Ignore" else []
        if call.validation == "Strict" and warnings:
            raise strict_error(warnings)
        created = False

        def decide(transaction: Transaction) -> JsonObject:
            nonlocal created
            created = not call.subresource and transaction.get(_key(call)) is None
            old = None if created else _current(call, transaction)
            applied = self._managers.apply(call, old, config.value, timestamp(self._clock()))
            decoded = Decoded(read_applied(call.kind, applied), warnings)
            if old is None:
                return self._create_applied(call, decoded, transaction)
            return self._change(call, decoded, old, transaction)

        answer = await self._write(call, warnings, decide)
        return replace(answer, code=201) if created else answer

    def _create_applied(self, call: Call, decoded: Decoded, transaction: Transaction) -> JsonObject:
        metadata = decoded.value["metadata"]
        if metadata.get("uid"):
            why = f"uid mismatch: the provided object specified uid {metadata['uid']}, and no existing object was found"
            raise status.conflict(call.kind, call.name, why)
        if not metadata.get("name"):
            raise bad_request(
                f"the name of the object ({call.name} based on URL) was undeterminable: name must be provided"
            )
        check_name(call, metadata)
        metadata.pop("resourceVersion", None)
        return self._create(call, decoded, transaction)

    def _change(self, call: Call, decoded: Decoded, old: JsonObject, transaction: Transaction) -> JsonObject:
        new = admit_change(call.kind, decoded.value, old, call.subresource)
        before = old["metadata"].get("finalizers", ())
        decoded.warnings.extend(
            text for text in finalizer_warnings(new["metadata"]) if not any(f'"{name}"' in text for name in before)
        )
        if settled(new, old):
            return old
        return self._lifecycle(transaction).changed(_key(call), new)

    async def delete(self, call: Call) -> Answer:
        options = delete_options(call)

        def decide(transaction: Transaction) -> JsonObject:
            return self._delete(call.kind, _key(call), options, transaction)

        return await self._write(call, [], decide, dry_run=options.dry_run)

    def _delete(self, kind: Kind, key: Key, options: DeleteOptions, transaction: Transaction) -> JsonObject:
        value = transaction.get(key)
        if value is None:
            raise status.not_found(kind, key.name)
        options.check(kind, value)
        left = self._lifecycle(transaction).delete(kind, key, options.policy)
        return status.success(kind, key.name, value["metadata"]["uid"]) if left is None else left

    async def delete_collection(self, call: Call) -> Answer:
        options = delete_options(call)
        selection = selection_of(call)

        def decide(transaction: Transaction) -> JsonObject:
            found = [
                (key, value)
                for key, value in transaction.list(call.kind.resource, call.namespace)
                if selection.matches(value)
            ]
            for key, _ in found:
                if transaction.get(key) is not None:
                    self._delete(call.kind, key, options, transaction)
            return _list(call.kind, [value for _, value in found], {"resourceVersion": str(self._store.revision)})

        return await self._write(call, [], decide, dry_run=options.dry_run)

    def _lifecycle(self, transaction: Transaction) -> Lifecycle:
        return Lifecycle(self._registry, transaction, timestamp(self._clock()))

    def _check_namespace(self, kind: Kind, metadata: JsonObject, transaction: Transaction) -> None:
        if self._registry.namespace is None:
            return
        namespace = transaction.get(Key(NAMESPACES, "", metadata["namespace"]))
        if namespace is None:
            raise status.namespace_not_found(metadata["namespace"])
        if is_terminating(namespace):
            raise status.namespace_terminating(kind, metadata["name"], metadata["namespace"])

    def _check_revision(self, call: Call) -> int:
        wanted, current = call.number("resourceVersion"), self._store.revision
        if wanted > current:
            raise status.from_the_future(wanted, current)
        if call.query.get("resourceVersionMatch") == "Exact" and wanted != current:
            raise status.expired(wanted, current)
        return current

    async def _write(
        self,
        call: Call,
        warnings: list[str],
        decide: Callable[[Transaction], JsonObject],
        code: int = 200,
        *,
        dry_run: bool | None = None,
    ) -> Answer:
        try:
            if call.dry_run if dry_run is None else dry_run:
                value = self._store.preview(decide)
                if code == 201 or (call.name and self._store.get(_key(call)) is None):
                    value["metadata"].pop("resourceVersion", None)
            else:
                value = await self._store.write(decide)
        except ApiError as error:
            raise warned(error, warnings) from error.__cause__
        return Answer(present(call, value, self._clock()), code, warnings)


def selection_of(call: Call) -> Selection:
    """The selectors of a call; a list or watch of one name is a field selector too. Raises ApiError 400."""
    return parse_selection(call.kind, call.query.get("labelSelector", ""), call.query.get("fieldSelector", ""))


def present(call: Call, value: JsonObject, now: datetime) -> JsonObject:
    """One object in the form that was asked for. A Status is always itself."""
    form = form_of(call.accept)
    if value["kind"] == "Status" and value["apiVersion"] == "v1":
        return value
    if form == "Table":
        metadata = {"resourceVersion": value["metadata"].get("resourceVersion", "")}
        return table(call.kind, [value], metadata, call.include, now)
    return partial(value) if form == "PartialObjectMetadata" else value


def present_list(call: Call, items: Sequence[JsonObject], metadata: JsonObject, now: datetime) -> JsonObject:
    """A list in the form that was asked for."""
    form = form_of(call.accept)
    if form == "Table":
        return table(call.kind, items, metadata, call.include, now)
    if form.startswith("PartialObjectMetadata"):
        return {
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": [partial(value) for value in items],
        }
    return _list(call.kind, items, metadata)


def _list(kind: Kind, items: Sequence[JsonObject], metadata: JsonObject) -> JsonObject:
    return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}


def _patched(call: Call, old: JsonObject, patch: Any) -> Any:
    match call.content_type:
        case "application/json-patch+json":
            return json_patch(old, patch)
        case "application/strategic-merge-patch+json":
            whole = {"properties": {**call.kind.schema.get("properties", {}), "metadata": METADATA}}
            return strategic_merge_patch(old, patch, whole)
        case _:
            return merge_patch(old, patch)


def check_name(call: Call, metadata: JsonObject) -> None:
    """Raises ApiError 400 if the object has another name than the URL."""
    if metadata.get("name", "") != call.name:
        raise bad_request(
            f"the name of the object ({metadata.get('name', '')}) does not match the name on the URL ({call.name})"
        )


def _key(call: Call) -> Key:
    return Key(call.kind.resource, call.namespace, call.name)


def _current(call: Call, transaction: Transaction) -> JsonObject:
    value = transaction.get(_key(call))
    if value is None:
        raise status.not_found(call.kind, call.name)
    return value | {"apiVersion": call.kind.api_version}


def _shown(kind: Kind, entry: Entry) -> JsonObject:
    # Another version of the same resource may have been stored: versions differ in name only.
    return entry.decode() | {"apiVersion": kind.api_version}


def _take(kind: Kind, entries: Sequence[Entry], selection: Selection, limit: int) -> tuple[list[JsonObject], int]:
    """The first `limit` (0: all) objects that are selected, and how many entries are left behind them."""
    items: list[JsonObject] = []
    for index, entry in enumerate(entries):
        if limit and len(items) == limit:
            rest = entries[index:]
            if not selection:
                return items, len(rest)
            return items, sum(selection.matches(each.decode()) for each in rest)
        value = _shown(kind, entry)
        if selection.matches(value):
            items.append(value)
    return items, 0


def _page_of(call: Call, revision: int) -> tuple[int, tuple[str, str] | None, int]:
    """Limit, where to go on, and the revision to say.

    Later pages repeat the revision of the first, so that a watch from it misses nothing.
    """
    token = call.query.get("continue", "")
    limit = call.number("limit")
    if not token:
        return limit, None, revision
    try:
        first, namespace, name = msgspec.json.decode(base64.urlsafe_b64decode(token), type=tuple[int, str, str])
    except (binascii.Error, ValueError) as error:
        raise bad_request("continue key is not valid: it must be what a list returned") from error
    return limit, (namespace, name), first


def _token(revision: int, last: JsonObject) -> str:
    metadata = last["metadata"]
    token = msgspec.json.encode((revision, metadata.get("namespace", ""), metadata["name"]))
    return base64.urlsafe_b64encode(token).decode()
