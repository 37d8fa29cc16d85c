# SPDX-License-Identifier: GPL-2.0-only
"""Structs and their names, allocation and its faults, atomics, xarrays, per-CPU data."""

from __future__ import annotations

from stressvmap.journal import events as ev
from stressvmap.kernel.percpu import PerCpu, PerCpuPointer
from stressvmap.kernel.slab import KMALLOC, KMEM_CACHE_ALLOC, PTE_ALLOC, XA_INSERT, kmalloc, kmem_cache_alloc
from stressvmap.kernel.struct import POISON, AtomicLong, OnStack
from stressvmap.kernel.xarray import EBUSY, ENOMEM, XArray
from stressvmap.program import Fault
from stressvmap.sched.replay import Run
from tests.kernel.world import Thing, World, until


def test_an_object_is_named_by_its_task_and_its_number_there() -> None:
    for script in ([Run(1), Run(2)], [Run(2), Run(1)]):
        world = World(*script)
        made: dict[int, list[int]] = {1: [], 2: []}

        def body(world: World = world, made: dict[int, list[int]] = made) -> None:
            task = world.runtime.current.id
            for _ in range(2):
                made[task].append(Thing(world.machine).id)
                world.runtime.point(ev.READ, 0, "")

        world.run(body, body)
        assert made == {1: [1 << 20 | 1, 1 << 20 | 2], 2: [2 << 20 | 1, 2 << 20 | 2]}


def test_what_exists_from_boot_on_belongs_to_task_0() -> None:
    world = World()
    assert [world.thing().id >> 20, world.thing().id & 0xFFFFF] == [0, 2]


def test_a_field_nobody_wrote_reads_as_poison_and_is_told() -> None:
    world = World()
    seen: list[int] = []

    def body() -> None:
        thing = Thing(world.machine)
        seen.append(thing.count)
        thing.count = 3
        seen.append(thing.count)

    world.run(body)
    assert seen == [POISON, 3]
    assert [event[5] for event in world.of(ev.UNINITIALISED)] == ["count"]
    assert world.position(ev.UNINITIALISED) < world.position(ev.READ)


def test_a_compound_assignment_is_a_read_point_and_a_write_point() -> None:
    world = World()
    thing = world.thing(4)

    def body() -> None:
        thing.count += 1

    world.run(body)
    assert [(event[0], event[5], event[6]) for event in world.of(ev.READ, ev.WRITE)] == [
        (ev.READ, "count", 4),
        (ev.WRITE, "count", 5),
    ]
    assert world.runtime.points == 2


def test_marked_accesses_have_kinds_of_their_own_and_objects_are_shown_by_id() -> None:
    world = World()
    thing, other = world.thing(), world.thing()

    def body() -> None:
        thing.WRITE_ONCE("link", other)
        assert thing.READ_ONCE("link") is other
        thing.write("link", None)

    world.run(body)
    assert [(event[0], event[6]) for event in world.of(ev.READ_ONCE, ev.WRITE_ONCE, ev.WRITE)] == [
        (ev.WRITE_ONCE, other.id),
        (ev.READ_ONCE, other.id),
        (ev.WRITE, 0),
    ]


def test_an_access_to_a_dead_object_is_told_with_its_kind() -> None:
    world = World()
    thing = world.thing(1)

    def body() -> None:
        thing.kfree()
        thing.count += 1
        thing.READ_ONCE("count")
        thing.kfree()

    world.run(body)
    assert [(event[5], event[6]) for event in world.of(ev.DEAD_ACCESS)] == [
        ("count", ev.READ),
        ("count", ev.WRITE),
        ("count", ev.READ_ONCE),
        ("(freed again)", ev.WRITE),
    ]
    assert thing.id not in world.machine.live


def test_memory_that_lives_on_as_another_object_reads_that_objects_values() -> None:
    world = World()
    old, new = world.thing(1), world.thing(7)
    seen: list[int] = []

    def body() -> None:
        old.recycle(new)
        seen.append(old.count)

    world.run(body)
    assert seen == [7]
    assert world.of(ev.OBJECT_FREE) == [(ev.OBJECT_FREE, 1, 0, "", old.id, "thing", ev.FREED_RECYCLED)]
    assert [event[5] for event in world.of(ev.DEAD_ACCESS)] == ["count"]


def test_what_lies_on_a_stack_has_a_name_but_is_never_a_leak() -> None:
    world = World()
    assert OnStack(world.machine).id not in world.machine.live
    assert world.thing().id in world.machine.live


def test_an_atomic_is_one_step_and_two_tasks_lose_no_increment() -> None:
    world = World(Run(1, until(ev.ATOMIC)), Run(2), Run(1))
    counter = AtomicLong(world.machine, "nr")

    def body() -> None:
        counter.add_return(2)
        counter.sub(1)
        counter.read_value()

    world.run(body, body)
    assert counter.value == 2
    assert [event[6] for event in world.of(ev.ATOMIC)] == [2, 1, 3, 2]
    assert {event[5] for event in world.of(ev.ATOMIC, ev.READ_ONCE)} == {"nr"}
    assert world.runtime.points == 6


def test_a_fault_hits_the_nth_request_of_its_kind_by_its_task_alone() -> None:
    world = World(Run(2), Run(1))
    got: dict[int, list[bool]] = {1: [], 2: []}

    def body() -> None:
        mine = got[world.runtime.current.id]
        for _ in range(3):
            mine.append(kmalloc(world.machine, Thing) is not None)
            assert kmem_cache_alloc(world.machine, Thing) is not None
            world.runtime.point(ev.READ, 0, "")

    world.run(body, body, faults=[Fault(KMALLOC, 1, 1), Fault(KMALLOC, 2, 0), Fault(KMEM_CACHE_ALLOC, 3, 0)])
    assert got == {1: [True, False, True], 2: [False, True, True]}
    assert [event[1:] for event in world.of(ev.ALLOC_FAILED)] == [
        (2, 1, "", 0, "kmalloc", 0),
        (1, 0, "", 0, "kmalloc", 1),
    ]


def test_an_allocation_that_may_sleep_says_so() -> None:
    world = World()

    def body() -> None:
        kmalloc(world.machine, Thing)
        kmem_cache_alloc(world.machine, Thing, can_sleep=False)

    world.run(body)
    assert [event[5] for event in world.of(ev.MIGHT_SLEEP)] == [KMALLOC]


def test_every_fault_kind_has_a_place_where_it_hits() -> None:
    world = World()
    index: XArray[Thing] = XArray(world.machine)
    thing = world.thing()
    results: list[int] = []

    def body() -> None:
        results.append(index.insert(1, thing))
        results.append(world.memory.vmap_pages_range_noflush(0x1000, [5]))

    world.run(body, faults=[Fault(XA_INSERT, 1, 0), Fault(PTE_ALLOC, 1, 0)])
    assert results == [-ENOMEM, -ENOMEM]
    assert world.memory.table == {}
    assert [event[5] for event in world.of(ev.ALLOC_FAILED)] == [XA_INSERT, PTE_ALLOC]


def test_an_xarray_refuses_a_taken_index_and_gives_back_what_it_erases() -> None:
    world = World()
    index: XArray[Thing] = XArray(world.machine)
    first, second = world.thing(), world.thing()

    def body() -> None:
        assert index.insert(3, first) == 0
        assert index.insert(3, second) == -EBUSY
        assert index.load(3) is first
        assert index.load(4) is None
        assert index.erase(3) is first
        assert index.erase(3) is None

    world.run(body)
    assert [event[5:] for event in world.of(ev.XA_STORE, ev.XA_LOAD, ev.XA_ERASE)] == [
        (3, first.id),
        (3, first.id),
        (4, 0),
        (3, first.id),
        (3, 0),
    ]


def test_a_walk_over_an_xarray_sees_what_is_there_by_the_time_it_comes_by() -> None:
    # Task 1 has been given entry 1 when task 2 erases 2 and 1, and stores 0 and 5.
    world = World(Run(1, until(ev.XA_LOAD)), Run(1, until(ev.XA_LOAD)), Run(2), Run(1))
    index: XArray[Thing] = XArray(world.machine)
    things = [world.thing(number) for number in range(6)]
    index.entries.update({1: things[1], 2: things[2], 4: things[4]})
    seen: list[int] = []

    def change() -> None:
        index.erase(2)
        index.erase(1)
        index.insert(0, things[0])
        index.insert(5, things[5])

    world.run(lambda: seen.extend(thing.values["count"] for thing in index.for_each()), change)
    assert seen == [1, 4, 5]


def test_per_cpu_data_exists_for_each_possible_cpu_of_a_sparse_mask() -> None:
    world = World(possible=[0, 2, 5], online=[0, 2])
    per_cpu = PerCpu(world.machine, "queue", lambda cpu: [cpu])
    assert [cpu for cpu, _ in per_cpu.instances()] == [0, 2, 5]
    assert world.machine.nr_cpu_ids() == 6
    seen: list[list[int]] = []
    world.run(lambda: seen.append(per_cpu.raw_cpu_ptr()), cpus=[2])
    assert seen == [per_cpu.per_cpu(2)] == [[2]]
    assert world.warnings() == []


def test_reaching_for_the_data_of_an_impossible_cpu_warns() -> None:
    world = World(possible=[0, 2], online=[0])
    per_cpu = PerCpu(world.machine, "queue", lambda cpu: [cpu])
    world.run(lambda: per_cpu.per_cpu(1).append(9))
    assert world.warnings() == ["per-CPU data of a CPU that is not possible"]
    assert per_cpu.per_cpu(1) == [1, 9]


def test_this_cpus_data_is_that_of_the_cpu_the_task_is_on_by_then() -> None:
    world = World()
    per_cpu = PerCpu(world.machine, "queue", lambda cpu: cpu)
    seen: list[int] = []

    def body() -> None:
        seen.append(per_cpu.raw_cpu_ptr())
        world.machine.move(world.runtime.current, 1)
        seen.append(per_cpu.raw_cpu_ptr())

    world.run(body)
    assert seen == [0, 1]


def test_a_per_cpu_pointer_is_exchanged_in_one_step() -> None:
    world = World(Run(1, until(ev.WRITE_ONCE, "spare")), Run(2), Run(1), cpus=1)
    pointer: PerCpuPointer[Thing] = PerCpuPointer(world.machine, "spare")
    mine, theirs = world.thing(), world.thing()
    found: list[tuple[str, Thing | None]] = []
    world.run(
        lambda: found.append(("late", pointer.this_cpu_xchg(mine))),
        lambda: found.append(("early", pointer.this_cpu_xchg(theirs))),
        cpus=(0, 0),
    )
    assert found == [("early", None), ("late", theirs)], "the second task ran while the first stood before its exchange"
    assert pointer.values() == [mine]


def test_a_per_cpu_pointer_is_set_only_where_it_is_what_was_expected() -> None:
    world = World(Run(1))
    pointer: PerCpuPointer[Thing] = PerCpuPointer(world.machine, "spare")
    first, second = world.thing(), world.thing()

    def body() -> None:
        assert pointer.this_cpu_cmpxchg(None, first) is None
        assert pointer.this_cpu_cmpxchg(None, second) is first
        assert pointer.this_cpu_read() is first

    world.run(body)
    writes = [event[6] for event in world.of(ev.WRITE_ONCE)]
    assert writes == [first.id]


def test_a_task_moved_before_its_this_cpu_operation_does_it_on_its_new_cpu() -> None:
    world = World(Run(1, until(ev.READ_ONCE, "spare")), Run(2), Run(1), cpus=2)
    pointer: PerCpuPointer[Thing] = PerCpuPointer(world.machine, "spare")
    thing = world.thing()
    found: list[Thing | None] = []

    def offline() -> None:
        pointer.this_cpu_xchg(thing)
        world.machine.cpu_down(0)

    world.run(lambda: found.append(pointer.this_cpu_read()), offline)
    assert found == [thing]
    assert pointer.values() == [None, thing]
