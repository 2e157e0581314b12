"""The errors of the application itself.

* UsageError        a flag, variable, file or manifest cannot be used
* StartError        Penstock cannot start
  + HeldError       another process holds the data directory
"""

from __future__ import annotations


class UsageError(Exception):
    """A setting cannot be used; the message names it and the fix."""


class StartError(Exception):
    """Penstock cannot start; the message says why and what to do."""


class HeldError(StartError):
    """Another process holds the data directory."""
