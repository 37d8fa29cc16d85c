# SPDX-License-Identifier: GPL-2.0-only
"""A cache and a shim of the test's own."""

from pathlib import Path

import pytest

from stressvmap.tree import recipe
from tests.tree.trees import SHIM, write_files


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; its folder need not exist."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "stressvmap"


@pytest.fixture
def small_shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shim and engine of a few lines in place of ours."""
    shim = write_files(tmp_path / "small-shim", SHIM)
    monkeypatch.setattr(recipe, "SHIM", shim)
    return shim
