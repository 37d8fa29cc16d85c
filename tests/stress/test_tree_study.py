# SPDX-License-Identifier: GPL-2.0-only
"""How the studies of kernel trees tell what they counted."""

from __future__ import annotations

from stressvmap.result import Finding
from stressvmap.stress.tree_study import Hit, _median

FINDING = Finding("leak", "0" * 12, "leak | x", "lost", 1, False, first_at_schedule=0)


def test_a_median_is_of_the_seeds_that_hit_and_says_how_many_did() -> None:
    assert _median([Hit(5, FINDING), Hit(1, FINDING), Hit(9, FINDING)]) == "5"
    assert _median([Hit(5, FINDING), Hit(2000, None), Hit(9, FINDING)]) == "9 (2/3)"


def test_where_most_seeds_do_not_hit_the_median_is_above_the_cap_whichever_comes_first() -> None:
    assert _median([Hit(489, FINDING), Hit(2000, None), Hit(2000, None)]) == "> 2000 (1/3)"
    assert _median([Hit(2000, None), Hit(2000, None), Hit(489, FINDING)]) == "> 2000 (1/3)"
