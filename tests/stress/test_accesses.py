# SPDX-License-Identifier: GPL-2.0-only
"""Which steps are independent: swapping two such neighbours changes nothing but their order, in the machine and in the
verdict.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.scenario import Scenario
from stressvmap.sched.exploring import StepRecord
from stressvmap.sched.footprint import Footprint, are_dependent
from stressvmap.stress.accesses import JournalAccesses
from stressvmap.stress.small_program import program_from_text
from tests.stress.swaps import Swapper

MACHINE = Scenario(cpus=3, window_blocks=4, migration_rate=0.0, fault_rate=0.0)
BUSY = program_from_text("map 0 4; unmap 0; map 2 2 | map 1 4; unmap 1; unmap 0 | touch 0; aliases; probe 0")


def step(*events: Event, kind: int = 0, object_id: int = 0, field: str = "", waits: bool = False) -> Footprint:
    """The footprint of a step of task 1 that announced `kind` and journalled `events`."""
    return JournalAccesses(8, set()).of(StepRecord(1, 0, kind, object_id, field, waits, events), 0)


def event(kind: int, a: int = 0, b: int | str = "", c: int = 0) -> Event:
    return (kind, 1, 0, "", a, b, c)


def access(kind: int, object_id: int = 7, field: str = "free") -> Footprint:
    return step(kind=kind, object_id=object_id, field=field)


INVALIDATION = step(event(ev.TLB_INVALIDATE, 16, "", 24))
FULL_INVALIDATION = step(event(ev.TLB_INVALIDATE, 0, "", ev.FULL_END))
FLUSHER_BEGINS = step(event(ev.API_BEGIN, 0, "vm_unmap_aliases"))
FLUSHER_ENDS = step(event(ev.API_END, 0, "vm_unmap_aliases"))


@pytest.mark.parametrize(
    ("one", "other", "is_dependent"),
    [
        pytest.param(access(ev.READ), access(ev.READ_ONCE), False, id="two reads"),
        pytest.param(access(ev.READ), access(ev.WRITE), True, id="a read and a write"),
        pytest.param(access(ev.WRITE, field="free"), access(ev.WRITE, field="dirty"), False, id="two fields"),
        pytest.param(access(ev.READ), step(event(ev.OBJECT_FREE, 7, "vmap_block")), True, id="a read and a free"),
        pytest.param(
            step(event(ev.XA_LOAD, 5, 1, 7)), step(event(ev.XA_STORE, 5, 2, 8)), False, id="two xarray indexes"
        ),
        pytest.param(step(event(ev.XA_LOAD, 5, 1, 0)), step(event(ev.XA_STORE, 5, 1, 8)), True, id="one xarray index"),
        pytest.param(INVALIDATION, step(event(ev.PTE_CLEAR, 17, 1)), True, id="an invalidation and a clear in it"),
        pytest.param(INVALIDATION, step(event(ev.PTE_CLEAR, 24, 1)), False, id="an invalidation and a clear beside it"),
        pytest.param(FULL_INVALIDATION, step(event(ev.PTE_CLEAR, 24, 1)), True, id="a full one and any clear"),
        pytest.param(INVALIDATION, step(event(ev.TLB_INVALIDATE, 20, "", 30)), False, id="two invalidations"),
        pytest.param(INVALIDATION, FLUSHER_ENDS, True, id="an invalidation and the return that it may pay for"),
        pytest.param(
            step(event(ev.API_END, 16, "vm_unmap_ram", 4)),
            FLUSHER_BEGINS,
            True,
            id="an unmapping returns, a flush begins",
        ),
        pytest.param(
            step(event(ev.API_END, 16, "vm_map_ram", 4)), FLUSHER_BEGINS, False, id="a mapping returns, a flush begins"
        ),
        pytest.param(step(event(ev.API_END, 0, "vm_map_ram", 4)), FLUSHER_BEGINS, True, id="a failed mapping returns"),
        pytest.param(step(event(ev.MIGRATED, 0, "", 1)), access(ev.READ), False, id="what no step looks at"),
    ],
)
def test_dependence(one: Footprint, other: Footprint, is_dependent: bool) -> None:
    assert are_dependent(one, other) == is_dependent
    assert are_dependent(other, one) == is_dependent


@pytest.fixture
def swapper() -> Iterator[Swapper]:
    swapper = Swapper("v6.5", MACHINE)
    yield swapper
    swapper.runtime.close()


def test_swapping_independent_neighbours_changes_neither_machine_nor_verdict(swapper: Swapper) -> None:
    changed = [swap.changed for seed in range(4) for swap in swapper.swaps(BUSY, seed, 12)]
    assert len(changed) > 30
    assert not any(changed), changed


@pytest.mark.parametrize("name", ["frames", "lock", "answers"])
def test_without_a_part_of_the_footprints_a_swap_would_change_something(name: str, swapper: Swapper) -> None:
    assert any(swap.changed for seed in range(60) for swap in swapper.swaps(BUSY, seed, 2, without=name))
