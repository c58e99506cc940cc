"""Named errors, each with the exit code a scheduler decides on (sysexits numbers)."""

from __future__ import annotations


class LakehouseError(Exception):
    """Base of every error a person is meant to read.

    ``str(error)`` is one line: what is wrong, where, and what to do next.
    """

    exit_code = 70

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        self.what, self.where, self.todo = what, where, todo
        parts = [f"{where}: {what}" if where else what]
        if todo:
            parts.append(todo)
        super().__init__(" ".join(" ".join(parts).split()))


class UsageError(LakehouseError):
    """The arguments are wrong (an unknown name, a folder that is not there)."""

    exit_code = 64


class DataRefused(LakehouseError):
    """A batch has more bad rows than its contract allows, or a file columns that its source forbids."""

    exit_code = 65


class ServiceUnavailable(LakehouseError):
    """Something the stage talks to cannot be reached; worth another try."""

    exit_code = 69


class InternalError(LakehouseError):
    """A law of the system is broken (rows do not balance): a bug, not the data's fault."""

    exit_code = 70


class TryAgain(LakehouseError):
    """A concurrent writer won; the same run will succeed later."""

    exit_code = 75


class ConfigurationError(LakehouseError):
    """A contract, a source or a setting is not valid."""

    exit_code = 78
