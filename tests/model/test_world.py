# SPDX-License-Identifier: GPL-2.0-only
"""The builders themselves: a test whose script misses its interleaving must not pass."""

from __future__ import annotations

import pytest

from stressvmap.errors import ScheduleMismatch
from stressvmap.journal import events as ev
from stressvmap.program import Program
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.replay import ReplayStrategy, Run
from stressvmap.vmalloc.v6_4 import V6_4
from tests.model.world import (
    ALIASES,
    VERSIONS,
    Outcome,
    alone,
    execute,
    irq,
    map_,
    nth,
    on,
    scenario,
    scripted,
    unmap,
    until_in,
    until_kind,
)

PROGRAM = (on(0, map_(0, 4), map_(1, 4), unmap(0), ALIASES), on(1, map_(2, 2), unmap(1), ALIASES))


def interleaved(version: type[V6_4]) -> Outcome:
    return scripted(
        version,
        *PROGRAM,
        script=[Run(1, until_kind(ev.PTE_CLEAR)), Run(2)],
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_script_gives_the_same_journal_each_time_and_so_does_a_replay_of_its_schedule(version: type[V6_4]) -> None:
    first = interleaved(version)
    assert interleaved(version).journal.digest() == first.journal.digest()
    runtime = first.backend.runtime
    assert isinstance(runtime, ControlledRuntime)
    replay = ReplayStrategy(runtime.schedule)
    replay.begin(0)
    again = execute(version, ControlledRuntime(replay), Program(PROGRAM), scenario())
    assert again.journal.digest() == first.journal.digest()


@pytest.mark.parametrize(
    "line",
    [
        Run(1, until_in("no_such_function", ev.LOCK)),
        Run(1, nth(1000, until_kind(ev.LOCK))),
        Run(3, until_kind(ev.LOCK)),
    ],
)
def test_a_point_that_is_never_reached_is_an_error(line: Run) -> None:
    with pytest.raises(ScheduleMismatch):
        scripted(V6_4, *PROGRAM, script=[line])


def test_a_task_that_blocks_before_its_point_is_an_error() -> None:
    """Task 2 waits for the mutex that task 1 holds."""
    with pytest.raises(ScheduleMismatch):
        scripted(
            V6_4,
            *PROGRAM,
            script=[
                Run(1, until_in("purge_fragmented_blocks", ev.RCU_READ_LOCK)),
                Run(2, until_in("_vm_unmap_aliases", ev.UNLOCK, "vmap_purge_lock")),
            ],
        )


def test_a_deaf_cpu_answers_only_on_its_line() -> None:
    program = (on(0, map_(0, 8), unmap(0), ALIASES),)
    sent = Run(1, until_in("__purge_vmap_area_lazy", ev.TLB_INVALIDATE))
    outcome = scripted(V6_4, *program, script=[sent, Run(1), Run(irq(1), until_kind(ev.TLB_INVALIDATE))], deaf=[1])
    handled = [event[2] for event in outcome.events(ev.TLB_INVALIDATE)]
    assert handled[:2] == [0, 1], "its own CPU first"
    prompt = scripted(V6_4, *program)
    assert [event[2] for event in prompt.events(ev.TLB_INVALIDATE)][:2] == [1, 0]


@pytest.mark.parametrize("version", VERSIONS)
def test_one_task_does_the_same_under_both_runtimes(version: type[V6_4]) -> None:
    operations = (map_(0, 4), map_(1, 4), unmap(0), ALIASES, map_(2, 8), unmap(2), unmap(1), ALIASES)
    sequential, controlled = alone(version, *operations), scripted(version, on(0, *operations))
    assert sequential.flush_calls() == controlled.flush_calls()
    assert sequential.returned("vm_map_ram") == controlled.returned("vm_map_ram")
    assert sequential.fingerprints("stale-after-unmap-aliases") == controlled.fingerprints("stale-after-unmap-aliases")
