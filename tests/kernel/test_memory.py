# SPDX-License-Identifier: GPL-2.0-only
"""Page table, TLBs and the flush that is no instant."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.kernel.memory import DIRECT_MAP_PAGE, EBUSY
from stressvmap.ranges import PAGE_SIZE
from stressvmap.runtime.runtime import DEADLOCK
from stressvmap.sched.replay import Run
from tests.kernel.world import IRQ, World, until

PAGE = 0x100000
HANDLING = until(ev.TLB_INVALIDATE)
SENDING = until(ev.IPI_SEND)


def mapped(world: World, *frames: int) -> None:
    """PTEs from PAGE on, present since boot."""
    world.memory.table.update({PAGE + number: frame for number, frame in enumerate(frames)})


def flush(world: World, start: int = PAGE, end: int = PAGE + 1) -> None:
    world.memory.flush_tlb_kernel_range(start * PAGE_SIZE, end * PAGE_SIZE)


def unmap(world: World, start: int = PAGE, end: int = PAGE + 1) -> None:
    world.memory.vunmap_range_noflush(start * PAGE_SIZE, end * PAGE_SIZE)


def step(world: World) -> None:
    world.runtime.point(ev.READ, 0, "step")


def cpus_of(world: World, kind: int) -> list[int]:
    return [event[2] for event in world.of(kind)]


def test_an_initiator_is_not_back_while_one_cpu_has_not_answered_and_others_go_on() -> None:
    world = World(Run(1), Run(IRQ + 1), Run(3), Run(IRQ + 2), Run(1), cpus=3)
    order: list[str] = []

    def initiator() -> None:
        flush(world)
        order.append("back")

    def other() -> None:
        step(world)
        order.append("went on")

    world.run(initiator, lambda: None, other)
    assert order == ["went on", "back"]
    assert cpus_of(world, ev.TLB_INVALIDATE) == [0, 1, 2]
    assert [event[6] for event in world.of(ev.IPI_SEND)] == [1, 2]
    assert world.events[world.position(ev.FLUSH_END)][1:] == (1, 0, "", PAGE, 1, PAGE + 1)
    assert world.position(ev.FLUSH_END) > world.position(ev.TLB_INVALIDATE, IRQ + 2)
    assert world.is_clean()


def test_an_invalidation_handled_before_the_pte_clear_leaves_a_translation_cached_after_it() -> None:
    # task 1, CPU 0: flush    CPU 1's interrupt     task 2, CPU 1     task 3, CPU 1
    #   sends
    #                         invalidates
    #                                               reads: fills
    #                                                                 clears the PTE
    #   is back, and CPU 1 still translates
    world = World(Run(1), Run(IRQ + 1), Run(2, until(ev.READ, "step")), Run(3), Run(1), Run(2))
    mapped(world, 7)
    reads: list[int | None] = []

    def read_twice() -> None:
        reads.append(world.memory.read_page(PAGE))
        step(world)
        reads.append(world.memory.read_page(PAGE))

    world.run(lambda: flush(world), read_twice, lambda: unmap(world), cpus=[0, 1, 1])
    assert world.position(ev.TLB_INVALIDATE, IRQ + 1) < world.position(ev.TLB_FILL) < world.position(ev.PTE_CLEAR)
    assert reads == [7, 7]
    assert world.memory.tlbs[1] == {PAGE: 7}


def test_an_invalidation_handled_after_the_pte_clear_removes_it_whenever_its_flush_began() -> None:
    world = World(Run(2, until(ev.READ, "step")), Run(1), Run(3), Run(IRQ + 1), Run(1), Run(2))
    mapped(world, 7)
    reads: list[int | None] = []

    def read_twice() -> None:
        reads.append(world.memory.read_page(PAGE))
        step(world)
        reads.append(world.memory.read_page(PAGE))

    world.run(lambda: flush(world), read_twice, lambda: unmap(world), cpus=[0, 1, 1])
    assert world.position(ev.FLUSH_BEGIN) < world.position(ev.PTE_CLEAR) < world.position(ev.TLB_INVALIDATE, IRQ + 1)
    assert reads == [7, None]


def test_a_flush_waits_for_its_answers_at_a_point_of_its_own() -> None:
    answered = until(0, "answers")
    world = World(Run(1, answered), Run(2), Run(1), Run(IRQ + 1), Run(1), cpus=2)
    done: list[int] = []

    def other() -> None:
        done.append(len(world.of(ev.TLB_INVALIDATE)))

    world.run(lambda: flush(world), other)
    assert done == [1]
    assert world.position(ev.TLB_INVALIDATE, IRQ + 1) < world.position(ev.FLUSH_END)


def test_an_interrupt_is_served_while_the_cpus_task_is_parked() -> None:
    world = World(Run(2, until(ev.READ, "count")), Run(3), Run(1), Run(IRQ + 1), Run(1), cpus=3)
    thing = world.thing()

    def hold() -> None:
        with thing.lock:
            thing.count += 1

    world.run(lambda: flush(world), hold, hold, cpus=[0, 2, 1])
    # Task 3 spins on CPU 1, preemption off, when the CPU answers.
    assert world.position(ev.LOCK_WAIT, 3) < world.position(ev.TLB_INVALIDATE, IRQ + 1) < world.position(ev.LOCK, 3)


def test_an_interrupt_falls_into_a_critical_section_of_its_cpu_and_delays_only_that_cpu() -> None:
    world = World(Run(2, until(ev.READ, "count")), Run(1), Run(IRQ + 1, HANDLING), Run(3), Run(IRQ + 1), Run(2), cpus=3)
    thing = world.thing()
    order: list[int] = []

    def hold() -> None:
        with thing.lock:
            thing.count += 1
        order.append(2)

    def other() -> None:
        step(world)
        order.append(3)
        assert world.runtime.interrupted_by[1].id == IRQ + 1
        assert not world.runtime.can_run(world.tasks[2])

    world.run(lambda: flush(world), hold, other)
    assert order == [3, 2]
    assert world.is_clean()


def test_no_interrupt_is_served_while_the_cpu_has_interrupts_off() -> None:
    world = World(Run(2, until(ev.READ, "step")), Run(1), Run(2, until(ev.READ, "step")), Run(2))
    order: list[str] = []

    def irqs_off() -> None:
        world.machine.local_irq_disable()
        step(world)
        assert not world.runtime.can_run(world.memory.interrupt_tasks[1])
        step(world)
        order.append(f"answered {cpus_of(world, ev.TLB_INVALIDATE)}")
        world.machine.local_irq_enable()

    world.run(lambda: flush(world), irqs_off)
    assert order == ["answered [0]"]
    assert cpus_of(world, ev.TLB_INVALIDATE) == [0, 1]
    assert world.is_clean()


def test_waiting_for_an_answer_with_interrupts_off_while_the_other_does_the_same_is_a_deadlock() -> None:
    world = World(Run(1, SENDING), Run(2))

    def body() -> None:
        world.machine.local_irq_disable()
        flush(world)

    world.run(body, body, expect=DEADLOCK)
    assert [(event[1], event[5], event[6]) for event in world.of(ev.BLOCKED)] == [
        (1, "answers to a TLB flush", IRQ + 1),
        (2, "answers to a TLB flush", IRQ),
        (IRQ, "CPU 0", 1),
        (IRQ + 1, "CPU 1", 2),
    ]


def test_a_flush_that_is_never_over_names_each_interrupt_that_did_not_answer() -> None:
    world = World(Run(2), Run(3), Run(1), cpus=4)
    thing = world.thing()
    thing.mutex.owner = world.runtime.current  # nobody who will release it

    def deaf() -> None:
        world.machine.local_irq_disable()
        thing.mutex.lock()

    world.run(lambda: flush(world), deaf, deaf, cpus=[0, 1, 3], expect=DEADLOCK)
    owners = [event[6] for event in world.of(ev.BLOCKED) if event[1] == 1]
    assert owners == [IRQ + 1, IRQ + 3]


@pytest.mark.parametrize("nth", range(5))
def test_two_cpus_that_flush_at_once_do_not_deadlock(nth: int) -> None:
    world = World(*[Run(1, lambda task: True)] * nth, Run(2), cpus=4)
    world.run(lambda: flush(world), lambda: flush(world, PAGE + 8, PAGE + 9))
    assert len(world.of(ev.FLUSH_END)) == 2
    handled = sorted((event[2], event[4]) for event in world.of(ev.TLB_INVALIDATE))
    assert handled == [(cpu, page) for cpu in range(4) for page in (PAGE, PAGE + 8)]
    assert world.is_clean()


def test_two_flushes_by_one_cpus_tasks_are_told_apart_by_number() -> None:
    world = World()
    world.run(lambda: flush(world), lambda: flush(world), cpus=[0, 0])
    assert [event[5] for event in world.of(ev.FLUSH_BEGIN, ev.FLUSH_END)] == [1, 1, 2, 2]


def test_an_initiator_keeps_its_cpu_until_all_have_answered() -> None:
    world = World(Run(1, until(ev.TLB_INVALIDATE)))
    order: list[int] = []

    def initiator() -> None:
        flush(world)
        order.append(1)

    world.run(initiator, lambda: order.append(2), cpus=[0, 0])
    assert order == [1, 2]


def test_a_cpu_alone_answers_itself() -> None:
    world = World(cpus=1)
    mapped(world, 7)

    def body() -> None:
        world.memory.read_page(PAGE)
        unmap(world)
        flush(world)
        assert world.memory.read_page(PAGE) is None

    world.run(body)
    assert cpus_of(world, ev.TLB_INVALIDATE) == [0]
    assert world.of(ev.IPI_SEND) == []


def test_an_offline_cpu_is_not_interrupted() -> None:
    world = World(possible=[0, 1, 3], online=[0, 3])
    world.run(lambda: flush(world))
    assert [event[6] for event in world.of(ev.IPI_SEND)] == [3]
    assert cpus_of(world, ev.TLB_INVALIDATE) == [0, 3]


def test_a_cpu_that_leaves_during_a_flush_makes_no_other_be_passed_over() -> None:
    world = World(Run(1, SENDING), Run(1, SENDING), Run(2), cpus=4)

    def offline() -> None:
        world.memory.empty_tlb(2)
        world.machine.set_online(2, False)
        world.machine.set_online(1, False)
        world.machine.set_online(1, True)

    world.run(lambda: flush(world), offline, cpus=[0, 3])
    assert world.machine.online == [0, 1, 3]
    assert [event[6] for event in world.of(ev.IPI_SEND)] == [1, 3]
    assert [event[0] for event in world.of(ev.CPU_OFFLINE, ev.CPU_ONLINE)] == [
        ev.CPU_OFFLINE,
        ev.CPU_OFFLINE,
        ev.CPU_ONLINE,
    ]


@pytest.mark.parametrize(
    ("ceiling", "pages", "is_full"), [(0, 1 << 20, False), (33, 33, False), (33, 34, True), (33, 0, False)]
)
def test_a_range_above_the_ceiling_becomes_a_full_flush(ceiling: int, pages: int, is_full: bool) -> None:
    world = World(ceiling=ceiling, cpus=1)
    world.run(lambda: flush(world, PAGE, PAGE + pages))
    expected = (0, ev.FULL_END) if is_full else (PAGE, PAGE + pages)
    for kind in (ev.FLUSH_BEGIN, ev.TLB_INVALIDATE, ev.FLUSH_END):
        assert [(event[4], event[6]) for event in world.of(kind)] == [expected]
    assert [(event[4], event[6]) for event in world.of(ev.FLUSH_ARGS)] == [(PAGE, PAGE + pages)]


@pytest.mark.parametrize("ceiling", [0, 33])
def test_a_flush_with_senseless_arguments_is_kept_as_evidence(ceiling: int) -> None:
    # start = ULONG_MAX, end = 0: what _vm_unmap_aliases starts its minimum and maximum with.
    world = World(ceiling=ceiling)
    mapped(world, 7)
    top = (1 << 64) - 1

    def body() -> None:
        world.memory.read_page(PAGE)
        world.memory.flush_tlb_kernel_range(top, 0, "senseless")

    world.run(body)
    assert [event[4:] for event in world.of(ev.FLUSH_ARGS)] == [(top >> 12, "senseless", 0)]
    # Nothing lies in [start, end); with a ceiling the unsigned difference is above it, and everything goes.
    assert world.memory.tlbs[0] == ({} if ceiling else {PAGE: 7})
    assert len(world.of(ev.FLUSH_END)) == 1


def test_a_range_that_ends_inside_a_page_includes_it() -> None:
    world = World(cpus=1)
    world.run(lambda: world.memory.flush_tlb_kernel_range(PAGE * PAGE_SIZE, PAGE * PAGE_SIZE + 1))
    assert [(event[4], event[6]) for event in world.of(ev.FLUSH_BEGIN)] == [(PAGE, PAGE + 1)]


def test_an_invalidation_removes_only_its_range() -> None:
    world = World()
    mapped(world, 7, 8, 9)

    def body() -> None:
        for page in range(PAGE, PAGE + 3):
            world.memory.read_page(page)
        flush(world, PAGE + 1, PAGE + 2)

    world.run(body)
    assert world.memory.tlbs == {0: {PAGE: 7, PAGE + 2: 9}, 1: {}}


def test_a_read_fills_the_tlb_of_its_own_cpu_and_a_fault_is_no_crash() -> None:
    world = World()
    mapped(world, 7)
    reads: list[int | None] = []

    def body() -> None:
        for page in (PAGE, PAGE, PAGE + 1):
            reads.append(world.memory.read_page(page))

    world.run(lambda: None, body)
    assert reads == [7, 7, None]
    assert world.memory.tlbs == {0: {}, 1: {PAGE: 7}}
    assert [(event[0], event[2], event[5], event[6]) for event in world.of(ev.TLB_FILL, ev.TLB_READ)] == [
        (ev.TLB_FILL, 1, 7, 0),
        (ev.TLB_READ, 1, 7, 0),
        (ev.TLB_READ, 1, 7, 1),
    ]


def test_mapping_over_a_present_pte_stops_there_and_keeps_the_prefix() -> None:
    world = World()
    world.memory.table[PAGE + 1] = 4
    results: list[int] = []
    world.run(lambda: results.append(world.memory.vmap_pages_range_noflush(PAGE * PAGE_SIZE, [5, 6, 7])))
    assert results == [-EBUSY]
    assert world.memory.table == {PAGE: 5, PAGE + 1: 4}
    assert [event[4:6] for event in world.of(ev.PTE_BUSY)] == [(PAGE + 1, 4)]
    assert world.warnings() == ["a present PTE in a range to map"]


def test_mapping_nothing_is_a_bug() -> None:
    world = World()
    world.run(lambda: world.memory.vmap_pages_range_noflush(PAGE * PAGE_SIZE, []))
    assert world.bugs() == ["mapping of an empty range"]


def test_unmapping_clears_page_by_page_what_is_there_between_its_begin_and_end() -> None:
    world = World(Run(1, until(ev.PTE_CLEAR)), Run(1, until(ev.PTE_CLEAR)), Run(2), Run(1))
    mapped(world, 7, 8)
    seen: list[dict[int, int]] = []
    world.run(lambda: unmap(world, PAGE, PAGE + 4), lambda: seen.append(dict(world.memory.table)))
    assert seen == [{PAGE + 1: 8}]
    assert [(event[0], event[4]) for event in world.of(ev.UNMAP_BEGIN, ev.PTE_CLEAR, ev.UNMAP_END)] == [
        (ev.UNMAP_BEGIN, PAGE),
        (ev.PTE_CLEAR, PAGE),
        (ev.PTE_CLEAR, PAGE + 1),
        (ev.UNMAP_END, PAGE),
    ]


def test_a_frame_leaves_the_direct_map_and_comes_back() -> None:
    world = World()
    page = DIRECT_MAP_PAGE + 9

    def body() -> None:
        world.memory.set_direct_map_invalid_noflush(9)
        assert world.memory.direct_map_holes == {9}
        world.memory.set_direct_map_default_noflush(9)

    world.run(body)
    assert world.memory.direct_map_holes == set()
    assert world.memory.page_address(9) == page * PAGE_SIZE
    assert [(event[0], event[4]) for event in world.of(ev.UNMAP_BEGIN, ev.PTE_CLEAR, ev.UNMAP_END, ev.PTE_SET)] == [
        (ev.UNMAP_BEGIN, page),
        (ev.PTE_CLEAR, page),
        (ev.UNMAP_END, page),
        (ev.PTE_SET, page),
    ]


def test_a_freed_frame_is_the_next_to_be_handed_out_under_a_new_owner() -> None:
    world = World()
    frames = world.kernel.frames
    first, second = frames.alloc(), frames.alloc()
    frames.free(first)
    assert frames.alloc() == first
    owners = [(event[4], event[6]) for event in world.of(ev.FRAME_OWNER)]
    assert owners == [(first, 1), (second, 2), (first, 0), (first, 3)]
