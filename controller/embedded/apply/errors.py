"""What can be wrong with a write.

ApplyError
├── Conflicts           others have fields that an apply would change
├── TypedError          a value does not fit its schema
├── UnkeyedItem         an item of a list cannot be told from the others
└── WrongConfiguration  what is applied is not about this kind, or says what it may not say
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.embedded.apply.managers import ManagerId
    from controller.embedded.apply.paths import Path


class ApplyError(Exception):
    """Root of the errors of this package. The texts are those of an API server."""


class Conflicts(ApplyError):
    """`found` has the fields with who has them, in order."""

    def __init__(self, found: Sequence[tuple[ManagerId, Path]]) -> None:
        super().__init__(f"{len(found)} conflicts")
        self.found = found


class TypedError(ApplyError):
    """`faults` are the texts, each with its path."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(faults[0] if len(faults) == 1 else "\n  ".join(["errors:", *faults]))


class UnkeyedItem(ApplyError):
    """The text says what the item lacks."""


class WrongConfiguration(ApplyError):
    """The text says what is wrong."""
