# SPDX-License-Identifier: GPL-2.0-only
"""What trees are known to break, and the races of theirs that are argued for, as files of `configs/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from stressvmap.checks.registry import CHECK_NAMES
from stressvmap.stress.allowed_races import read_allowed
from stressvmap.tree.version import read_known

ROOT = Path(__file__).parents[2]
ARGUMENT_CHARACTERS_MIN = 80


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/known-*.toml")), ids=lambda path: path.stem)
def test_what_a_tree_is_known_to_break_is_written_up(path: Path) -> None:
    known = read_known(path)
    assert known
    assert len({one.fingerprint for one in known}) == len(known)
    for one in known:
        assert one.mechanism.partition(" | ")[0] in CHECK_NAMES
        assert (ROOT / one.reference).is_file()
        assert one.title


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/races-*.toml")), ids=lambda path: path.stem)
def test_a_race_that_is_allowed_has_two_functions_a_field_and_an_argument(path: Path) -> None:
    for one in read_allowed(path):
        assert len(one.functions) == 2
        assert one.fields
        assert len(one.reason) > ARGUMENT_CHARACTERS_MIN
