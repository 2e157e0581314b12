"""Deletion: finalizers, owners and their dependents, namespaces and their content.

All of it happens inside the transaction of the write that caused it, so that there is no moment, and no crash, in which
an owner is gone and its dependents are not; nothing has to be looked for at start.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from controller.embedded.database import Key
from controller.embedded.metadata import FOREGROUND, ORPHAN
from controller.embedded.status import forbidden
from controller.embedded.store import owners_of

if TYPE_CHECKING:
    from controller.embedded.registry import Registry
    from controller.embedded.store import Transaction
    from controller.objects.kind import JsonObject, Kind

NAMESPACES = "namespaces"
PERMANENT_NAMESPACES = ("default", "kube-system")
_NAMESPACE_FINALIZER = "kubernetes"


class Lifecycle:
    """Ends objects within one transaction."""

    def __init__(self, registry: Registry, transaction: Transaction, now: str) -> None:
        self._registry = registry
        self._transaction = transaction
        self._now = now
        self._emptying: set[str] = set()

    def delete(self, kind: Kind, key: Key, policy: str = "Background") -> JsonObject | None:
        """Delete an object; returns it where it has to wait for finalizers, else None, when it is gone."""
        value = self._transaction.get(key)
        if value is None:
            return None
        if key.resource == NAMESPACES:
            return self._delete_namespace(kind, key, value)
        finalizers = [name for name in value["metadata"].get("finalizers", ()) if name not in (FOREGROUND, ORPHAN)]
        if policy == "Orphan":
            self._orphan(value)
        elif policy == "Foreground" and self._delete_dependents(value):
            finalizers.append(FOREGROUND)
        if not finalizers:
            self._remove(key, value)
            return None
        return self._mark(key, value, finalizers)

    def changed(self, key: Key, value: JsonObject) -> JsonObject:
        """Store an updated object; one that waited for its last finalizer is removed instead."""
        metadata = value["metadata"]
        if "deletionTimestamp" not in metadata or metadata.get("finalizers") or key.resource == NAMESPACES:
            return self._transaction.put(key, value)
        return self._remove(key, value)

    def _mark(self, key: Key, value: JsonObject, finalizers: list[str]) -> JsonObject:
        metadata = dict(value["metadata"]) | ({"finalizers": finalizers} if finalizers else {})
        if "deletionTimestamp" not in metadata:
            metadata |= {"deletionTimestamp": self._now, "deletionGracePeriodSeconds": 0}
            if "generation" in metadata:
                metadata["generation"] += 1
        if metadata == value["metadata"]:
            return value
        return self._transaction.put(key, value | {"metadata": metadata})

    def _remove(self, key: Key, value: JsonObject) -> JsonObject:
        removed = self._transaction.delete(key, value) or value
        self._delete_dependents(value)
        for reference in owners_of(value):
            self._release_owner(key.namespace, reference)
        if key.namespace and key.namespace not in self._emptying:
            self._release_namespace(key.namespace)
        return removed

    def _delete_dependents(self, owner: JsonObject) -> bool:
        """Delete what this object owns; True if a dependent that blocks the owner has to wait for finalizers."""
        waiting = False
        uid = owner["metadata"]["uid"]
        for key, _ in self._transaction.dependents(uid):
            # Read again: what went before it in this loop may have taken it along, or its other owner.
            if (value := self._transaction.get(key)) is None:
                continue
            others = [ref for ref in owners_of(value) if ref["uid"] != uid]
            if others:
                self._transaction.put(key, value | {"metadata": value["metadata"] | {"ownerReferences": others}})
            elif (left := self.delete(self._registry.stored[key.resource], key)) is not None:
                waiting = waiting or _blocks(left, uid)
        return waiting

    def _orphan(self, owner: JsonObject) -> None:
        uid = owner["metadata"]["uid"]
        for key, value in self._transaction.dependents(uid):
            metadata = dict(value["metadata"])
            others = [ref for ref in metadata.pop("ownerReferences") if ref["uid"] != uid]
            if others:
                metadata["ownerReferences"] = others
            self._transaction.put(key, value | {"metadata": metadata})

    def _release_owner(self, namespace: str, reference: JsonObject) -> None:
        """An owner in foreground deletion goes when its last blocking dependent has gone."""
        kind = self._registry.owner(reference["apiVersion"], reference["kind"])
        if kind is None:
            return
        key = Key(kind.resource, namespace if kind.namespaced else "", reference["name"])
        owner = self._transaction.get(key)
        if owner is None or owner["metadata"]["uid"] != reference["uid"]:
            return
        finalizers = owner["metadata"].get("finalizers", [])
        blocked = any(_blocks(value, reference["uid"]) for _, value in self._transaction.dependents(reference["uid"]))
        if FOREGROUND not in finalizers or blocked:
            return
        left = [name for name in finalizers if name != FOREGROUND]
        if left:
            self._mark(key, owner, left)
        else:
            metadata = {name: value for name, value in owner["metadata"].items() if name != "finalizers"}
            self._remove(key, owner | {"metadata": metadata})

    def _delete_namespace(self, kind: Kind, key: Key, value: JsonObject) -> JsonObject | None:
        if key.name in PERMANENT_NAMESPACES:
            raise forbidden(kind, key.name, "this namespace may not be deleted")
        marked = self._mark(key, value, value["metadata"].get("finalizers", []))
        terminating = marked | {"status": (marked.get("status") or {}) | {"phase": "Terminating"}}
        if terminating != marked:
            terminating = self._transaction.put(key, terminating)
        self._emptying.add(key.name)
        for resource, each in self._registry.stored.items():
            if each.namespaced:
                for inner, _ in list(self._transaction.list(resource, key.name)):
                    self.delete(each, inner)
        self._release_namespace(key.name)
        return self._transaction.get(key)

    def _release_namespace(self, name: str) -> None:
        """A terminating namespace goes when its last object has gone."""
        key = Key(NAMESPACES, "", name)
        value = self._transaction.get(key)
        if value is None or "deletionTimestamp" not in value["metadata"] or value["metadata"].get("finalizers"):
            return
        kinds = self._registry.stored
        if not any(True for each in kinds if kinds[each].namespaced for _ in self._transaction.list(each, name)):
            self._transaction.delete(key, value)


def is_terminating(value: JsonObject) -> bool:
    return "deletionTimestamp" in value["metadata"]


def permanent_namespaces(transaction: Transaction, now: str) -> None:
    """Make the namespaces that are always there, where they are not yet."""
    for name in PERMANENT_NAMESPACES:
        key = Key(NAMESPACES, "", name)
        if transaction.get(key) is None:
            metadata = {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": now}
            transaction.put(key, new_namespace({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))


def new_namespace(value: JsonObject) -> JsonObject:
    """A Namespace as it is stored: labelled with its name, finalized by its content, active."""
    metadata = value["metadata"]
    metadata["labels"] = (metadata.get("labels") or {}) | {"kubernetes.io/metadata.name": metadata["name"]}
    value["spec"] = {"finalizers": [_NAMESPACE_FINALIZER]}
    value["status"] = {"phase": "Active"}
    return value


def _blocks(dependent: JsonObject, uid: str) -> bool:
    return any(ref["uid"] == uid and ref.get("blockOwnerDeletion") for ref in owners_of(dependent))
