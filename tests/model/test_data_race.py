# SPDX-License-Identifier: GPL-2.0-only
"""data-race on model code: the unmarked reads that v6.5 marked, what follows from its own bug, and planted ones."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.known import Known
from stressvmap.program import Program
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.replay import Run
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.known import UNMARKED_READS, WRONG_QUEUE
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from stressvmap.vmalloc.v6_12 import V6_12
from tests.model.mutants import ForgetsWriteOnce, PoisonsWalkedNode, SetsCpuFirst
from tests.model.test_lists_and_locks import purged_while_listed
from tests.model.world import (
    ALIASES,
    PAUSE,
    VERSIONS,
    Outcome,
    execute,
    map_,
    on,
    scenario,
    scripted,
    unmap,
    until_in,
    until_kind,
    until_pause,
    vmalloc,
)

RACE = "data-race"


def mechanisms(known: tuple[Known, ...]) -> set[str]:
    return {entry.mechanism for entry in known if entry.check == RACE}


def texts(outcome: Outcome) -> set[str]:
    return {found.mechanism.text() for found in outcome.of(RACE)}


def looked_at_by_a_purge(version: type[V6_4]) -> Outcome:
    """The purge of an allocation that found no space looks at a block of which pieces come and go meanwhile."""
    return scripted(
        version,
        on(0, map_(0, 2), map_(1, 2), PAUSE, unmap(0), map_(2, 1)),
        on(1, vmalloc(3, 60)),
        script=[Run(1, until_pause), Run(2, until_in("purge_fragmented_blocks", ev.RCU_READ_UNLOCK)), Run(1), Run(2)],
    )


@pytest.mark.parametrize("version", [V6_4, Rfc3of3])
def test_a_purge_that_looks_before_it_locks_races_with_the_blocks_users(version: type[V6_4]) -> None:
    """Row 40, cured by 7f48121e9fa8. Here the reads come first; their values were right."""
    found = texts(looked_at_by_a_purge(version))
    assert {(text.split(" | ")[1], text.split(" | ")[2]) for text in found} == {
        ("vmalloc + vm_map_ram", "vmap_block.free"),
        ("vmalloc + vm_unmap_ram", "vmap_block.dirty"),
    }
    assert found <= mechanisms(UNMARKED_READS)


def test_the_same_looks_and_updates_are_marked_in_v6_5() -> None:
    outcome = looked_at_by_a_purge(V6_5)
    assert outcome.of(RACE) == []
    assert [
        event for event in outcome.events(ev.READ_ONCE) if event[3] == "purge_fragmented_blocks" and event[5] == "free"
    ]


def test_one_write_that_is_not_marked_is_enough() -> None:
    (text,) = texts(looked_at_by_a_purge(ForgetsWriteOnce))
    assert text == (
        "data-race | vmalloc + vm_unmap_ram | vmap_block.dirty "
        "| marked read under vmap_purge_lock against plain write under vb->lock | holding nothing"
    )


def test_a_list_changed_under_two_locks_is_a_race_of_its_pointers() -> None:
    """Row 42, even where the list comes out whole."""
    found = texts(purged_while_listed(V6_5, 1))
    assert found
    assert found <= mechanisms(WRONG_QUEUE)
    assert texts(purged_while_listed(V6_5, 0)) == set(), "owner and bucket are the same CPU here"
    assert texts(purged_while_listed(SetsCpuFirst, 1)) == set(), "vb->cpu says whose list it is on"


def test_a_walker_races_with_a_delete_that_poisons_its_node() -> None:
    def of(version: type[V6_4]) -> set[str]:
        outcome = scripted(
            version,
            on(0, map_(0, 4), PAUSE, map_(1, 4)),
            on(1, ALIASES),
            script=[
                Run(1, until_pause),
                Run(2, until_kind(ev.READ_ONCE, "free_list.next")),
                Run(2, until_in("_vm_unmap_aliases", ev.RCU_READ_UNLOCK)),
                Run(1),
            ],
        )
        return {text for text in texts(outcome) if "list walk" in text}

    assert of(PoisonsWalkedNode) == {
        "data-race | vm_unmap_aliases + vm_map_ram | free list of blocks "
        "| list walk under no lock against list change under vb->lock and vbq->lock | holding nothing"
    }
    assert of(V6_4) == set(), "list_del_rcu leaves the next pointer, and marks the store before it"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("workload", ["mixed", "fill-block", "cross-cpu", "seccomp-teardown"])
def test_random_executions_show_no_race_that_is_not_known(version: type[V6_4], workload: str) -> None:
    where = scenario(
        workload=workload, lazy_max=16, window_blocks=6, aliases_rate=0.1, reset_rate=0.5, vmalloc_rate=0.1
    )
    runtime = ControlledRuntime(RandomStrategy(3))
    found: set[str] = set()
    for number in range(8):
        runtime.strategy.begin(number)
        program: Program = draw(where, 3, number)
        found |= texts(execute(version, runtime, program, where, only=(RACE,)))
    runtime.close()
    assert found <= mechanisms(version.known)
    if version not in (V6_5, V6_12):
        assert found
