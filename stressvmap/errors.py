# SPDX-License-Identifier: GPL-2.0-only
"""The one exception hierarchy. The command line turns each into one message and an exit status."""

from __future__ import annotations

from typing import Final

STOPPED_STATUS: Final = 130
"""What a process exits with that Ctrl-C or SIGTERM ended (docs/usage.md)."""


class StressVmapError(Exception):
    """Base of everything stressvmap raises on purpose. `exit_status` is the process's (docs/usage.md)."""

    exit_status: int = 3


class ConfigError(StressVmapError):
    """Bad usage, configuration, scenario, version or input file: says what, where, and how to mend it."""

    exit_status = 2


class PatchError(ConfigError):
    """A user's own patch file cannot be loaded, or raised an exception of its own; names file and line."""


class BuildError(ConfigError):
    """A kernel tree cannot be built, or a patch does not apply. `details`: a line for each thing that is missing or
    wrong, with file and line; or the lines of the hunk.
    """

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.details = details


class JournalFormatError(ConfigError):
    """A file that is no journal of ours at all (a cut journal is read as far as it goes instead)."""


class ScheduleMismatch(StressVmapError):
    """A schedule does not fit the program it is replayed on; names the first diverging step."""

    exit_status = 4

    def __init__(self, message: str, step: int = 0) -> None:
        super().__init__(message)
        self.step = step
        """Scheduling points announced when it was noticed."""


class Stalled(StressVmapError):
    """The version loops without a scheduling point; names where."""

    exit_status = 4


class HarnessError(StressVmapError):
    """The harness itself failed: a bug of ours."""

    exit_status = 3
