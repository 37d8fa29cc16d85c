# SPDX-License-Identifier: GPL-2.0-only
"""livelock: fires if everybody runs and nothing completes, and only then. L is 100 steps a page, CPU and task."""

from __future__ import annotations

from stressvmap.checks.base import run_checks
from stressvmap.checks.livelock import FAIR_SHARE, STEPS_PER_PAGE, Livelock
from stressvmap.checks.state import State
from stressvmap.journal import events as ev
from stressvmap.journal.journal import Journal
from tests.checks.recording import ALIASES, BITS, Recording

WINDOW_PAGES = 2 * BITS
MUTEX = "vmap_purge_lock"


def length(tasks: int) -> int:
    return STEPS_PER_PAGE * (WINDOW_PAGES + 2) * tasks


def spin(j: Recording, task: int, steps: int) -> None:
    """Take the mutex, look, release it, again and again."""
    for step in range(steps):
        j.add((ev.LOCK, ev.READ, ev.UNLOCK)[step % 3], task, 9, MUTEX, function="drain_vmap_area_work")


def stop(j: Recording, *runnable: int, why: str = "steps-max") -> None:
    for task in runnable:
        j.add(ev.RUNNABLE, task)
    j.add(ev.STOPPED, 0, 0, why)


def livelocks(j: Recording) -> list[str]:
    journal: Journal = j.journal()
    journal.header["window"] = [0x1000, 0x1000 + WINDOW_PAGES]
    state = State()
    return [found.message for found in run_checks(journal, state, [Livelock(state)]).violations]


def test_a_task_that_spins_alone_for_so_long() -> None:
    j = Recording()
    spin(j, 1, length(1))
    stop(j, 1)
    (message,) = livelocks(j)
    assert f"no operation was completed in {length(1)} steps" in message
    assert "worker/1 (task 1, CPU 0) in drain_vmap_area_work: has made" in message


def test_one_step_less_can_not_be_told_from_a_long_call() -> None:
    j = Recording()
    spin(j, 1, length(1) - 1)
    stop(j, 1)
    assert livelocks(j) == []


def test_a_call_that_returned_is_progress() -> None:
    j = Recording()
    j.begin(2, ALIASES)
    spin(j, 1, length(2))
    j.end(2, ALIASES)
    spin(j, 1, 30)
    stop(j, 1)
    assert livelocks(j) == []


def test_a_task_that_could_have_gone_on_and_was_not_let_makes_the_schedule_unfair() -> None:
    j = Recording()
    spin(j, 1, length(2))
    stop(j, 1, 2)
    assert livelocks(j) == []


def test_two_tasks_that_both_ran_are_in_it_together() -> None:
    j = Recording()
    for _ in range(FAIR_SHARE):
        spin(j, 1, length(2) // FAIR_SHARE - 30)
        spin(j, 2, 30)
    stop(j, 1, 2)
    (message,) = livelocks(j)
    assert "worker/1" in message
    assert "worker/2" in message


def test_a_task_left_out_of_an_eighth_of_it_was_not_treated_fairly() -> None:
    j = Recording()
    for part in range(FAIR_SHARE):
        spin(j, 1, length(2) // FAIR_SHARE - 30)
        spin(j, 2 if part != 4 else 1, 30)
    stop(j, 1, 2)
    assert livelocks(j) == []


def test_a_task_that_waits_for_a_lock_is_not_kept_from_running() -> None:
    j = Recording()
    j.add(ev.LOCK_WAIT, 2, 9, MUTEX, 1)
    spin(j, 1, length(2))
    j.add(ev.BLOCKED, 2, 9, MUTEX, 1)
    stop(j, 1)
    assert len(livelocks(j)) == 1


def test_an_execution_that_came_to_its_end_was_none_however_long_it_took() -> None:
    for why in ("done", "deadlock", "bug", "interrupted"):
        j = Recording()
        spin(j, 1, 3 * length(1))
        stop(j, 1, why=why)
        assert livelocks(j) == [], why


def test_where_nobody_can_run_it_is_no_livelock() -> None:
    j = Recording()
    spin(j, 1, length(1))
    j.add(ev.BLOCKED, 1, 9, MUTEX, 2)
    stop(j)
    assert livelocks(j) == []
