"""Errors about fields, in the words and the order of Knative's webhooks: scripts and people know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controller.objects.kind import Denied

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WEBHOOK = 'admission webhook "validation.webhook.eventing.knative.dev" denied the request'


@dataclass(frozen=True, slots=True)
class FieldError:
    """One complaint about one or several fields, each as a path from the object's root."""

    message: str
    paths: tuple[str, ...]
    details: str = ""

    def __str__(self) -> str:
        text = f"{self.message}: {', '.join(self.paths)}"
        return f"{text}\n{self.details}" if self.details else text


def missing(*paths: str) -> FieldError:
    return FieldError("missing field(s)", paths)


def disallowed(path: str, details: str = "") -> FieldError:
    return FieldError("must not set the field(s)", (path,), details)


def invalid(value: Any, path: str, details: str = "") -> FieldError:
    return FieldError(f"invalid value: {value}", (path,), details)


def raise_if_any(errors: Iterable[FieldError]) -> None:
    """Raise Denied with the text that a webhook's refusal has, if there is an error at all."""
    text = joined(errors)
    if text:
        raise Denied(f"{_WEBHOOK}: validation failed: {text}")


def joined(errors: Iterable[FieldError]) -> str:
    """All errors, one after the other: those of one message are merged, and they and their paths are sorted."""
    return "\n".join(str(error) for error in _merged(errors))


def _merged(errors: Iterable[FieldError]) -> Iterator[FieldError]:
    paths: dict[tuple[str, str], set[str]] = {}
    for error in errors:
        paths.setdefault((error.message, error.details), set()).update(error.paths)
    for message, details in sorted(paths):
        yield FieldError(message, tuple(sorted(paths[message, details])), details)
