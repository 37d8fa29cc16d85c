# SPDX-License-Identifier: GPL-2.0-only
"""The kernel sources that `make trees` fetched. A test that needs one is marked `trees`, and skipped without it."""

import os
from pathlib import Path

import pytest

from stressvmap.tree.fetch import archive_of

_HOME = os.environ.get("XDG_CACHE_HOME")


def archive(release: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive of `6.1` or `6.12`, in the user's own cache. Skips the test where it was not fetched."""
    package = f"linux-source-{release}"
    with monkeypatch.context() as own:
        if _HOME is not None:
            own.setenv("XDG_CACHE_HOME", _HOME)
        else:
            own.delenv("XDG_CACHE_HOME", raising=False)
        found = archive_of(package)
    if found is None:
        pytest.skip(f"{package} is not in the cache (make trees)")
    return found
