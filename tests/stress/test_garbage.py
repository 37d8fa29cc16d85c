# SPDX-License-Identifier: GPL-2.0-only
"""Looking for garbage seldom."""

from __future__ import annotations

from tests.stress.runs import python

SCRIPT = """
    import gc, weakref
    from stressvmap.stress.garbage import YOUNG_MAX, collect_rarely

    class Node:
        pass

    collect_rarely()
    assert gc.isenabled() and gc.get_freeze_count() > 1000
    node = Node()
    node.self = node
    seen = weakref.ref(node)
    del node
    held = [[] for _ in range(YOUNG_MAX // 2)]
    print(seen() is not None)
    held += [[] for _ in range(2 * YOUNG_MAX)]
    print(seen() is None)
"""


def test_cycles_are_found_after_a_while_and_not_before() -> None:
    """In a process of its own, for it is for good."""
    assert python(SCRIPT).communicate()[0].split() == ["True", "True"]
