# SPDX-License-Identifier: GPL-2.0-only
"""Screening against the checks on kernel trees, as `make screen-check` does it at length."""

from __future__ import annotations

from pathlib import Path

import pytest

from stressvmap.stress.screen_study import Counts, study, table
from tests.tree.kernel_sources import archive
from tests.tree.trees import needs_compiler, needs_patch

MUTANTS = Path(__file__).parents[2] / "configs" / "patches" / "mutants"


@pytest.mark.trees
@pytest.mark.timeout(600)
@needs_compiler
@needs_patch
@pytest.mark.parametrize(
    ("release", "patch", "check"),
    [
        ("6.1", "", "range-computed-unlocked"),
        ("6.1", "6.1/vb-alloc-space-not-checked.patch", "accounting"),
        ("6.1", "6.1/lazy-root-not-reset.patch", "leak"),
        ("6.12", "", "data-race"),
    ],
)
def test_screening_is_silent_about_no_run_in_which_a_check_fires(
    release: str, patch: str, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"tree:{archive(release, monkeypatch)}"
    counts = study(f"{name}?patch={MUTANTS / patch}" if patch else name, 70, 0)
    assert counts.shown == []
    assert not counts.silent
    assert counts.fired[check] > 0


def test_the_study_counts_silence_and_flags_without_need() -> None:
    counts = Counts("tree:a")
    counts.compare("mixed 0", 0b100000001, {"stale-after-unmap-aliases": "stale", "leak": "lost"})
    counts.compare("mixed 1", 0, {})
    assert (counts.runs, counts.flagged) == (2, 1)
    assert counts.silent == {"leak": 1}
    assert counts.shown == ["mixed 0: lost"]
    assert counts.without_need == {"flush-range-sanity": 1}
    told = table([counts])
    assert "| leak | 1 | 1 |" in told
    assert "2 runs, 0 events. Flagged without need: flush-range-sanity 1." in told


def test_a_run_with_a_type_that_was_not_told_is_judged_and_so_never_silent() -> None:
    counts = Counts("tree:a")
    counts.compare("mixed 0", 1 << 16, {"leak": "lost"})
    assert not counts.silent
