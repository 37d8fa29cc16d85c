# SPDX-License-Identifier: GPL-2.0-only
"""The bounded search counts every schedule within its bound once; any search can be put down and taken up again."""

from __future__ import annotations

from collections import Counter

import pytest

from stressvmap.sched.bounded import BoundedSearch
from stressvmap.sched.dpor import SourceDpor
from stressvmap.sched.exploring import CUT
from stressvmap.sched.search import Search
from tests.sched.explore_family import everything, explore, new_runtime, task_ids
from tests.sched.small_programs import Interpreter, SmallProgram, family

PROGRAMS = [
    SmallProgram(((0, ("w0", "r1")), (1, ("r0", "w1")))),
    SmallProgram(((0, ("[0", "w0", "]0")), (1, ("[0", "w0", "]0")), (2, ("r0",)))),
    SmallProgram(((0, ("(0", "(1", ")1", ")0")), (1, ("(1", "(0", ")0", ")1")))),
    SmallProgram(((0, ("<", "r0", ">")), (1, ("k0", "w1")))),
    SmallProgram(((0, ("d", "w0")), (1, ("d", "r0")))),
]


def schedules(program: SmallProgram, search: Search) -> list[tuple[int, tuple[int, ...]]]:
    """(preemptions, tasks in order) of each execution that a search runs, by a count of our own."""
    runtime = new_runtime()
    found = []
    while True:
        interpreter = Interpreter(program, runtime)
        runtime.watch(search, interpreter.world.events)
        assert runtime.run() != CUT
        nodes = search.nodes
        preemptions = sum(
            1 for node in nodes if node.current and node.chosen != node.current and node.current in node.enabled
        )
        found.append((preemptions, tuple(node.chosen for node in nodes)))
        if not search.advance():
            runtime.close()
            return found


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_a_bound_admits_just_the_schedules_with_at_most_so_many_preemptions(program: SmallProgram) -> None:
    tasks = task_ids(program)
    whole = Counter(schedules(program, everything(tasks)))
    for bound in range(4):
        within = Counter(schedules(program, BoundedSearch(tasks, bound)))
        assert within == Counter({one: count for one, count in whole.items() if one[0] <= bound})


def test_no_preemption_still_leaves_the_choice_of_who_is_first() -> None:
    program = PROGRAMS[0]
    assert len(schedules(program, BoundedSearch(task_ids(program), 0))) == 2


def test_a_switch_at_a_blocked_task_is_no_preemption() -> None:
    program = SmallProgram(((0, ("(0", "r1", ")0")), (1, ("(0", "w0", ")0"))))
    within = schedules(program, BoundedSearch(task_ids(program), 1))
    assert any(order[:2] == (1, 1) and order.count(2) == 4 and preempted == 1 for preempted, order in within)


def interrupted(program: SmallProgram, make: type[SourceDpor], every: int) -> tuple[int, set[int]]:
    """Like `explore`, but with a new search and a new runtime after each `every` executions."""
    tasks = task_ids(program)
    runtime, search = new_runtime(), make(tasks)
    complete, classes = 0, set()
    executions = 0

    def run(one: Search) -> str:
        interpreter = Interpreter(program, runtime)
        runtime.watch(one, interpreter.world.events)
        return runtime.run()

    while True:
        if run(search) != CUT:
            complete += 1
            classes.add(search.order.class_hash())
        executions += 1
        if not search.advance():
            return complete, classes
        if executions % every == 0:
            saved = search.save()
            runtime.close()
            runtime, search = new_runtime(), make(tasks)
            search.restore(saved, run)
            assert search.save() == saved


def test_a_search_taken_up_again_goes_on_as_if_nothing_had_been() -> None:
    programs = [*PROGRAMS, *(program for program in family(6, seed=5) if "c0" not in str(program))]
    for program in programs:
        whole = explore(program, SourceDpor, 300)
        if whole.is_whole:
            for number in (1, 3):
                assert interrupted(program, SourceDpor, number) == (whole.complete, whole.classes), program
