# SPDX-License-Identifier: GPL-2.0-only
"""The ways to make a program smaller: what is left keeps its meaning, ids and legs are renamed with it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stressvmap.program import (
    ALIASES,
    MAP,
    MIGRATE,
    PAUSE,
    TOUCH,
    UNMAP,
    VMALLOC,
    Fault,
    Migration,
    Program,
    ProgramOp,
    TaskProgram,
)
from stressvmap.scenario import Scenario
from stressvmap.sched.follow import Leg
from stressvmap.stress import variant as change
from stressvmap.stress.variant import Variant
from stressvmap.stress.workloads import draw

A = TaskProgram(0, (ProgramOp(MAP, 0, 4), ProgramOp(PAUSE, 0, 9), ProgramOp(UNMAP, 0)))
B = TaskProgram(1, (ProgramOp(MAP, 7, 2), ProgramOp(MIGRATE, 0, 2)))
C = TaskProgram(2, (ProgramOp(ALIASES), ProgramOp(TOUCH, 7)), "flusher")
THREE = Program((A, B, C), (Fault("kmalloc", 1, 0), Fault("kmalloc", 3, 0)), (Migration(2, 5, 0), Migration(3, 6, 1)))
LEGS = (Leg(1, 1, 4), Leg(2, 0, 3), Leg(3, 1, 2), Leg(1), Leg(1002), Leg(3000, -1, 0, 2))
START = Variant(Scenario(cpus=3), THREE, LEGS)


def test_an_operation_that_is_left_out_moves_legs_to_the_next_one() -> None:
    fewer = change.without(START, {(0, 1)})
    assert fewer.program.tasks[0].ops == (A.ops[0], A.ops[2])
    assert fewer.legs[0] == Leg(1, 1, 1)
    assert fewer.legs[1:] == LEGS[1:]


def test_a_leg_behind_the_last_operation_left_runs_to_the_tasks_end() -> None:
    assert change.without(START, {(0, 1), (0, 2)}).legs[0] == Leg(1)


def test_a_task_without_operations_goes_and_takes_its_faults_migrations_and_legs_with_it() -> None:
    fewer = change.without(START, {(1, 0), (1, 1)})
    assert fewer.program == Program((A, C), (Fault("kmalloc", 1, 0), Fault("kmalloc", 2, 0)), (Migration(2, 6, 1),))
    assert fewer.legs == (Leg(1, 1, 4), Leg(2, 1, 2), Leg(1), Leg(1002), Leg(3000, -1, 0, 2))


def test_merged_tasks_do_what_both_did_in_the_order_given() -> None:
    order = [(2, 0), (0, 0), (0, 1), (2, 1), (0, 2), (1, 0), (1, 1)]
    fewer = change.merged(START, 0, 2, order)
    assert fewer.program.tasks == (
        TaskProgram(0, (C.ops[0], A.ops[0], A.ops[1], C.ops[1], A.ops[2])),
        B,
    )
    assert fewer.legs[:3] == (Leg(1, 2, 4), Leg(2, 0, 3), Leg(1, 3, 2))
    assert [fault.task for fault in fewer.program.faults] == [1, 1]
    earlier = change.merged(START, 2, 0, order)
    assert earlier.program.tasks[0] == B
    assert earlier.program.tasks[1].cpu == C.cpu
    assert earlier.legs[:3] == (Leg(2, 2, 4), Leg(1, 0, 3), Leg(2, 3, 2))


def test_faults_and_migrations_are_counted_in_one_row() -> None:
    fewer = change.without_injections(START, {0, 3})
    assert fewer.program.faults == THREE.faults[1:]
    assert fewer.program.migrations == THREE.migrations[:1]


def test_without_a_cpu_its_tasks_are_elsewhere_and_the_others_close_up() -> None:
    variants = list(change.on_fewer_cpus(START))
    assert len(variants) == 6
    last_to_first = variants[0]
    assert last_to_first.scenario.cpus == 2
    assert [task.cpu for task in last_to_first.program.tasks] == [0, 1, 0]
    assert last_to_first.program.tasks[1].ops[1] == ProgramOp(MIGRATE, 0, 0)
    assert Leg(1000) in last_to_first.legs
    first_to_second = next(v for v in variants if [task.cpu for task in v.program.tasks] == [0, 0, 1])
    assert first_to_second.program.migrations == (Migration(2, 5, 0), Migration(3, 6, 0))


def test_listed_cpus_keep_their_numbers() -> None:
    sparse = Variant(Scenario(cpus=3, possible=(0, 2, 9), offline=(9,)), THREE)
    for fewer in change.on_fewer_cpus(sparse):
        assert len(fewer.scenario.possible) == 2
        assert set(fewer.scenario.possible) < {0, 2, 9}


def test_smaller_blocks_come_smallest_first_and_keep_what_bypasses_them_bypassing() -> None:
    large = Program((TaskProgram(0, (ProgramOp(MAP, 0, 9), ProgramOp(VMALLOC, 1, 3), ProgramOp(PAUSE, 0, 50))),))
    variants = list(change.with_smaller_blocks(Variant(Scenario(block_bits=16, max_alloc=8), large)))
    sizes = [(v.scenario.block_bits, v.scenario.max_alloc) for v in variants]
    assert sizes == sorted(sizes)
    assert sizes[0] == (4, 1)
    assert sizes[-1] == (16, 4)
    for v in variants:
        v.scenario.validate()
        ops = v.program.tasks[0].ops
        assert ops[0].pages > v.scenario.max_alloc
        assert 1 <= ops[1].pages <= v.scenario.max_alloc
        assert ops[2].pages == 50


def test_slots_are_numbered_as_they_appear() -> None:
    packed = change.with_packed_slots(START)
    assert [op.slot for task in packed.program.tasks for op in task.ops] == [0, 0, 0, 1, 0, 0, 1]


def test_a_trade_has_fewer_operations_and_something_else_that_is_larger_or_gone() -> None:
    trades = list(change.trades(START))
    assert all(change.program_size(traded) < change.program_size(START) for traded in trades)
    assert all(traded.program.operations < THREE.operations for traded in trades)
    without_pause_and_fault = change.without_injections(change.without(START, {(0, 1)}), {0})
    assert without_pause_and_fault in trades
    larger = Program((A, replace(B, ops=(ProgramOp(MAP, 7, 4), B.ops[1])), C))
    alone = change.without(Variant(START.scenario, larger, LEGS), {(0, 0)})
    assert replace(alone, program=replace(alone.program, faults=THREE.faults, migrations=THREE.migrations)) in trades


@given(st.integers(0, 200), st.sets(st.integers(0, 40)), st.data())
def test_every_change_gives_a_program_that_is_smaller_and_can_be_run(
    execution: int, numbers: set[int], data: st.DataObject
) -> None:
    scenario = Scenario(workload="mixed", cpus=3, operations=4, fault_rate=0.2, migration_rate=0.2, hotplug_rate=0.1)
    start = Variant(scenario, draw(scenario, 1, execution), LEGS)
    ops = change.operations(start.program)
    dropped = {ops[number % len(ops)] for number in numbers}
    candidates = [change.without(start, dropped), change.merged(start, 0, 1, ops), *change.on_fewer_cpus(start)]
    for candidate in candidates:
        assert change.program_size(candidate) <= change.program_size(start)
        candidate.scenario.validate()
        tasks = len(candidate.program.tasks)
        assert all(1 <= move.task <= tasks for move in candidate.program.migrations)
        assert all(1 <= fault.task <= tasks for fault in candidate.program.faults)
        for leg in candidate.legs:
            assert leg.task >= 1000 or leg.op < len(candidate.program.tasks[leg.task - 1].ops)
    kept = candidates[0].program
    assert kept.operations == start.program.operations - len(dropped)
