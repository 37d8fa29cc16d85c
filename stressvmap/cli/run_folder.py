# SPDX-License-Identifier: GPL-2.0-only
"""The folder of a run: logs/<time>-<command>-<id>/, or the one that --out names."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stressvmap.errors import ConfigError

LOGS: Final = Path("logs")


def create(command: str, out: Path | None, *, may_resume: bool = False) -> Path:
    """A new folder to write to. Raises ConfigError if `out` holds something (unless resumed) or cannot be written."""
    if out is None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        folder = LOGS / f"{stamp}-{command}-{os.urandom(3).hex()}"
    else:
        folder = out
        try:
            holds_something = folder.is_dir() and any(folder.iterdir())
        except OSError as error:
            raise ConfigError(f"--out {folder}: cannot be read: {error.strerror or error}") from None
        if holds_something and not may_resume:
            raise ConfigError(f"--out {folder}: is not empty; a run writes to a new or an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        named = f"--out {folder}" if out is not None else f"the run's folder {folder}"
        raise ConfigError(f"{named}: cannot be written: {error.strerror or error}") from None
    return folder
