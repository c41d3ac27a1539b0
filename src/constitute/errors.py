"""Errors a user can act on: each message says what was wrong, what was given and what to do.

Anything that is not a `ConstituteError` is a bug and keeps its traceback.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line returns."""

    OK = 0
    USAGE = 2
    ROWS_FAILED = 3
    GATE_FAILED = 4
    ENGINE_UNREACHABLE = 5
    LIMIT_REACHED = 6
    INTERRUPTED = 130


class ConstituteError(Exception):
    """Base of every error shown as one sentence; `exit_code` is what the command line returns."""

    exit_code = ExitCode.USAGE


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

    exit_code = ExitCode.GATE_FAILED


class LimitReached(ConstituteError):
    """A limit that the user set on requests, tokens or cost is reached; the run can be resumed."""

    exit_code = ExitCode.LIMIT_REACHED


class EngineError(ConstituteError):
    """The engine cannot go on; the run stops and can be resumed."""

    exit_code = ExitCode.ENGINE_UNREACHABLE


class RowError(Exception):
    """One row cannot be answered; it is recorded as failed with this reason and the run goes on."""


class PromptTooLong(RowError):
    """The rendered prompt leaves no room in the context. Message names its length and the limit."""


class Unanswered(RowError):
    """The server gave this row no usable answer, whatever was tried again.

    It tells nothing of the row where the server is going down: then the row is asked again later.
    """


class Filtered(RowError):
    """The server's filter, or the model's own refusal, withheld the answer."""


class Abstain(Exception):
    """A stage declines to answer a row, for the reason given; it is counted, never guessed."""
