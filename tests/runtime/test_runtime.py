# SPDX-License-Identifier: GPL-2.0-only
"""What every runtime shares: who may have a CPU, and what is finished."""

from __future__ import annotations

from stressvmap.runtime.runtime import DEADLOCK, DONE, Runtime
from stressvmap.runtime.task import Task


def task(id: int, cpu: int = 0, *, is_daemon: bool = False, is_interrupt: bool = False) -> Task:
    return Task(id, f"task/{id}", cpu, lambda: None, is_daemon=is_daemon, is_interrupt=is_interrupt)


def test_a_pinned_cpu_is_for_its_task_and_for_interrupts() -> None:
    runtime = Runtime()
    holder, rival, elsewhere = task(1), task(2), task(3, cpu=1)
    interrupt = task(1000, is_daemon=True, is_interrupt=True)
    runtime.pin(holder)
    assert [runtime.can_run(one) for one in (holder, rival, elsewhere, interrupt)] == [True, False, True, True]
    runtime.unpin(holder)
    assert runtime.can_run(rival)


def test_a_cpu_that_handles_an_interrupt_runs_nothing_else() -> None:
    runtime = Runtime()
    holder, elsewhere = task(1), task(2, cpu=1)
    interrupt = task(1000, is_daemon=True, is_interrupt=True)
    runtime.pin(holder)
    runtime.pin(interrupt)
    assert [runtime.can_run(one) for one in (holder, interrupt, elsewhere)] == [False, True, True]
    runtime.unpin(interrupt)
    assert runtime.can_run(holder)


def test_an_interrupt_cannot_start_while_its_cpu_has_them_off() -> None:
    runtime = Runtime()
    interrupt = task(1000, is_daemon=True, is_interrupt=True)
    runtime.irqs_off.add(0)
    assert not runtime.can_run(interrupt)
    runtime.enable_irqs(0)
    assert runtime.can_run(interrupt)


def test_who_dies_gives_up_its_cpu_and_the_machine_is_told() -> None:
    runtime = Runtime()
    dead: list[Task] = []
    runtime.on_death = dead.append
    holder = task(1)
    runtime.pin(holder)
    runtime.bury(holder)
    assert (dead, holder.is_dead, runtime.pinned_by) == ([holder], True, {})


def test_tasks_are_kept_by_id_and_a_daemon_is_finished_while_nobody_has_woken_it() -> None:
    runtime = Runtime()
    daemon, worker = task(2000, is_daemon=True), task(1)
    runtime.spawn(daemon)
    runtime.spawn(worker)
    assert runtime.tasks == [worker, daemon]
    assert [runtime.is_finished(one) for one in (worker, daemon)] == [False, True]
    daemon.is_parked = False
    worker.is_done = True
    assert [runtime.is_finished(one) for one in (worker, daemon)] == [True, False]


def test_an_execution_is_sealed_once_and_why_is_told_before() -> None:
    runtime = Runtime()
    told: list[str] = []
    runtime.on_stop = lambda reason: told.append(f"{reason}, sealed: {runtime.is_sealed}")
    runtime.on_seal = lambda: told.append("sealed")
    runtime.seal(DONE)
    runtime.seal(DEADLOCK)
    assert told == ["done, sealed: False", "sealed"]


def test_a_reset_forgets_everything_of_the_last_execution() -> None:
    runtime = Runtime()
    worker = task(1)
    worker.held.append(object())
    runtime.spawn(worker)
    runtime.pin(worker)
    runtime.irqs_off.add(1)
    runtime.points = 5
    runtime.seal(DONE)
    runtime.reset()
    state = (runtime.tasks, runtime.points, runtime.is_sealed, runtime.pinned_by, runtime.irqs_off, worker.held)
    assert state == ([], 0, False, {}, set(), [])
    assert runtime.current.id == 0
