"""Merging an applied configuration into an object, and taking out what an applier gave up."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from controller.embedded.apply.paths import field_element, tree
from controller.embedded.apply.typed import ABSENT, as_list, as_map, forms_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from controller.embedded.apply.paths import Node, Path
    from controller.embedded.apply.shape import Shape


def merge(shape: Shape, old: Any, new: Any) -> Any:
    """`old` with all of `new` in it. Nothing is removed; where both have a leaf, it is that of `new`."""
    form = forms_of(shape, old, new)[-1]
    if form in ("map", "any"):
        left, right = as_map(old), as_map(new)
        if not shape.atomic_map and (left or right):
            return _merge_maps(shape, left, right)
    elif form == "list":
        items = as_list(old), as_list(new)
        if not shape.atomic_list and any(items):
            return _merge_lists(shape, *items)
    return old if new is ABSENT else new


def _merge_maps(shape: Shape, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    merged = {}
    for name in [*old, *(name for name in new if name not in old)]:
        inner = shape.field(name)
        if inner is not None:
            merged[name] = merge(inner, old.get(name, ABSENT), new.get(name, ABSENT))
    return merged


def _merge_lists(shape: Shape, old: list[Any], new: list[Any]) -> list[Any]:
    """The items of both. Those of `new` have its order; the others stay behind what stood before them."""
    left = [shape.element(item) for item in old]
    right = [shape.element(item) for item in new]
    # Items that cannot be told apart are not merged into: what is applied replaces them.
    before = {element: (item if left.count(element) == 1 else None) for element, item in zip(left, old, strict=True)}
    after = dict(zip(right, new, strict=True))
    return [
        merge(shape.items(), before.get(each, ABSENT), after[each])
        if isinstance(each, str)
        else merge(shape.items(), old[each], ABSENT)
        for each in _order(left, right)
    ]


def _order(left: Sequence[str], right: Sequence[str]) -> Iterator[int | str]:
    """The order of a merged list: places in `left` of what only it has, and the elements of `right`.

    Two cursors go through the lists. An element of `left` that `right` has too waits for its turn there.
    """
    shared = deque(element for element in right if element in left)
    wanted = set(right)
    taken: set[str] = set()
    at = to = 0
    while at < len(left) or to < len(right):
        both = at < len(left) and to < len(right)
        if both and left[at] != right[to] and left[at] in wanted and shared and shared[0] != left[at]:
            at += 1
            continue
        if at < len(left) and left[at] not in wanted:
            yield at
            at += 1
            continue
        if at < len(left) and (left[at] in taken or left[at] == right[to]):
            at += 1
        if to < len(right):
            yield right[to]
            taken.add(right[to])
            if shared and shared[0] == right[to]:
                shared.popleft()
            to += 1


def remove(shape: Shape, value: Any, paths: Iterable[Path]) -> Any:
    """A value without the fields and items that are in the set.

    What is emptied by it becomes null, as on an API server; where null is not allowed it is dropped later.
    """
    return _remove(shape, value, tree(paths))


def _remove(shape: Shape, value: Any, node: Node) -> Any:
    match shape.form(value):
        case "list":
            if not isinstance(value, list) or shape.atomic_list:
                return None
            return _remove_items(shape, value, node) or None
        case "map" | "any":
            if not isinstance(value, dict) or shape.atomic_map:
                return None
            return _remove_fields(shape, value, node) or None
    return value


def _remove_items(shape: Shape, value: Sequence[Any], node: Node) -> list[Any]:
    kept = []
    for item in value:
        inner = node.below.get(shape.element(item))
        if inner is None:
            kept.append(item)
        elif not inner.member:
            kept.append(_remove(shape.items(), item, inner) if inner.below else item)
    return kept


def _remove_fields(shape: Shape, value: dict[str, Any], node: Node) -> dict[str, Any]:
    kept = {}
    for name, each in value.items():
        inner, below = node.below.get(field_element(name)), shape.field(name)
        if inner is None or below is None:
            kept[name] = each
        elif not inner.member:
            kept[name] = _remove(below, each, inner) if inner.below else each
    return kept
