# SPDX-License-Identifier: GPL-2.0-only
"""Preemptions written down beforehand: where they strike, and what runs where none does."""

from stressvmap.journal.events import API_BEGIN, API_END
from stressvmap.program import ALIASES, MAP, UNMAP, Program, ProgramOp, TaskProgram
from stressvmap.scenario import Scenario
from stressvmap.sched.planned import PlannedStrategy, Preemption
from stressvmap.stress.execution import Execution, Executor
from stressvmap.vmalloc.v6_5 import V6_5

SCENARIO = Scenario(cpus=2, window_blocks=6)
MAP_0, UNMAP_0 = ProgramOp(MAP, 0, 4), ProgramOp(UNMAP, 0)
FLUSH = ProgramOp(ALIASES)
UNMAP_POINT = 7
"""Of a vm_unmap_ram, one at which it holds no lock."""


def run(*tasks: tuple[ProgramOp, ...], preemptions: tuple[Preemption, ...] = ()) -> Execution:
    executor = Executor(V6_5, SCENARIO)
    program = Program(tuple(TaskProgram(cpu, operations) for cpu, operations in enumerate(tasks)))
    done = executor.run(program, PlannedStrategy(preemptions))
    executor.close()
    return done


def calls(done: Execution) -> list[tuple[int, str]]:
    """Task and kind of each call's begin (`<`) and end (`>`), the cleanup's left out."""
    marks = {API_BEGIN: "<", API_END: ">"}
    return [
        (event[1], f"{marks[event[0]]}{event[5]}")
        for event in done.journal.events
        if event[0] in marks and event[1] < 900
    ]


def users(done: Execution) -> list[int]:
    """The program's tasks in the order of the schedule's choices, daemons and the cleanup left out."""
    return [task for task, _ in done.schedule.choices if task < 900]


def test_without_a_preemption_the_tasks_run_one_after_the_other_whatever_interrupts_them() -> None:
    done = run((MAP_0, UNMAP_0, FLUSH), (FLUSH,))
    first = [(1, f"{mark}{name}") for name in ("vm_map_ram", "vm_unmap_ram", "vm_unmap_aliases") for mark in "<>"]
    assert calls(done) == [*first, (2, "<vm_unmap_aliases"), (2, ">vm_unmap_aliases")]


def test_a_preemption_strikes_at_its_point_of_its_operation() -> None:
    done = run((MAP_0, UNMAP_0), (FLUSH,), preemptions=(Preemption(1, 1, UNMAP_POINT),))
    assert users(done) == [1, 2, 1]
    map_points = next(count for task, count in run((MAP_0,), ()).schedule.choices if task == 1)
    assert done.schedule.choices[0] == (1, map_points - 1 + UNMAP_POINT)
    assert calls(done)[2:6] == [
        (1, "<vm_unmap_ram"),
        (2, "<vm_unmap_aliases"),
        (2, ">vm_unmap_aliases"),
        (1, ">vm_unmap_ram"),
    ]


def test_an_operation_that_is_left_out_moves_no_other_tasks_preemption_and_none_of_its_own_before() -> None:
    preemptions = (Preemption(1, 1, UNMAP_POINT), Preemption(2, 1, 3))
    whole = run((MAP_0, UNMAP_0, FLUSH), (FLUSH, FLUSH), preemptions=preemptions)
    shorter = run((MAP_0, UNMAP_0), (FLUSH, FLUSH), preemptions=preemptions)
    assert calls(shorter)[:7] == calls(whole)[:7]


def test_a_preemption_that_finds_nobody_else_or_is_never_reached_is_passed_over() -> None:
    plain = run((MAP_0, UNMAP_0), ())
    done = run((MAP_0, UNMAP_0), (), preemptions=(Preemption(1, 0, 3), Preemption(1, 1, 4000), Preemption(7, 0, 1)))
    assert done.journal.digest() == plain.journal.digest()


def test_the_rank_says_who_runs_instead() -> None:
    three = ((MAP_0,), (FLUSH,), (FLUSH,))
    assert users(run(*three, preemptions=(Preemption(1, 0, 2, rank=0),)))[:2] == [1, 2]
    assert users(run(*three, preemptions=(Preemption(1, 0, 2, rank=1),)))[:2] == [1, 3]
    assert users(run(*three, preemptions=(Preemption(1, 0, 2, rank=2),)))[:2] == [1, 2]
