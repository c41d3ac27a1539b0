"""Errors a user can act on: each message says what was wrong, what was given and what to do.

Exit codes: 0 ok, 2 usage, 3 some rows failed, 4 a quality gate failed, 5 engine unreachable,
130 interrupted. Anything that is not a `ConstituteError` is a bug and keeps its traceback.
"""

from __future__ import annotations


class ConstituteError(Exception):
    """Base of every error shown as one sentence; `exit_code` is what the command line returns."""

    exit_code = 2


class UsageError(ConstituteError, ValueError):
    """Something given by the user cannot be used: a flag, a file, a configuration."""


class DataError(ConstituteError, ValueError):
    """A file's content is broken; the message holds file and line."""


class RunMismatch(ConstituteError, ValueError):
    """A run directory was made by another configuration or version."""


class StorageError(ConstituteError, OSError):
    """The disk refused a write; everything acknowledged before it is kept."""


class GateFailed(ConstituteError):
    """A quality gate was not met."""

    exit_code = 4


class EngineError(ConstituteError):
    """The engine cannot go on; the run stops and can be resumed."""

    exit_code = 5


class RowError(Exception):
    """One row cannot be answered; it is recorded as failed with this reason and the run goes on."""


class PromptTooLong(RowError):
    """The rendered prompt leaves no room in the context. Message names its length and the limit."""


class Abstain(Exception):
    """A stage declines to answer a row, for the reason given; it is counted, never guessed."""
