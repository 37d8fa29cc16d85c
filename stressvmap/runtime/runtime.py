# SPDX-License-Identifier: GPL-2.0-only
"""The Runtime base class: what the simulated kernel asks of whoever runs its tasks.

Between two points of one task nothing of another task happens, in every runtime: so a mutation of the machine and its
journal entry are one step, and a test of a condition followed by `park` loses no wake-up.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable

from stressvmap.runtime.access import Key, Waitable
from stressvmap.runtime.task import Task, TaskKilled

DONE = "done"
DEADLOCK = "deadlock"
STEPS_MAX = "steps-max"
INTERRUPTED = "interrupted"


class Runtime:
    """Runs the tasks of one execution at a time. Invariant: `current` is the only task that may touch the machine."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.current: Task = Task(0, "boot", 0, _no_body)
        self.points = 0
        """Scheduling points announced in this execution."""
        self.steps_max = 1 << 62
        self.is_sealed = False
        """The execution is over: points are inert, and tasks that still run are being unwound."""
        self.pinned_by: dict[int, Task] = {}
        """By CPU: the task that cannot lose that CPU to another task (interrupts excepted)."""
        self.interrupted_by: dict[int, Task] = {}
        """By CPU: the interrupt pseudo-task that is running on it."""
        self.irqs_off: set[int] = set()
        """CPUs on which interrupts are disabled: their pseudo-task cannot start."""
        self.on_migrate: Callable[[Task], None] = _ignore_task
        """Called by `point` when a task's `migrate_at` is due: moves it, or leaves it for its next point."""
        self.on_seal: Callable[[], None] = _no_body
        """Called once when the execution stops, before tasks are unwound: the machine seals its journal."""
        self.on_death: Callable[[Task], None] = _ignore_task
        """Called when a task has hit a BUG_ON: the machine takes back what the task would have given back itself."""
        self.on_stop: Callable[[str], None] = _ignore_reason
        """Called with the reason just before sealing, so that the machine can record who is blocked."""

    # -- what the simulated kernel calls ------------------------------------------------------------------

    def point(self, kind: int, object_id: int, field: str) -> None:
        """Announce the current task's next operation. Other tasks may run before this returns."""
        raise NotImplementedError

    def park(self) -> None:
        """Block the current task until somebody calls `wake` on it. A wake-up may be spurious: test again."""
        raise NotImplementedError

    def wake(self, task: Task) -> None:
        """Make a parked task enabled. Harmless if it is not parked."""
        raise NotImplementedError

    def draw(self, n: int) -> int:
        """A number in [0, n), part of the schedule: every random choice made during an execution comes from here."""
        raise NotImplementedError

    def own_points(self) -> int:
        """Scheduling points that the current task has announced in this execution; `Task.points` may be behind while
        it runs.
        """
        return self.current.points

    def note(self, key: Key, use: int) -> None:
        """Tell how the current step uses something shared that neither its announced operation nor its journal
        entries name (runtime/access.py). Of interest only to a runtime that explores.
        """

    def point_before(self, wait: Waitable, kind: int, object_id: int, field: str) -> None:
        """A point after which the current task waits for `wait`."""
        task = self.current
        task.waits_for = wait
        self.point(kind, object_id, field)
        task.waits_for = None

    def spawn(self, task: Task) -> None:
        """Add a task to the execution. Its id must be new; `tasks` is kept ascending by id, the order of a
        schedule's choices.
        """
        insort(self.tasks, task, key=_task_id)

    # -- CPUs ---------------------------------------------------------------------------------------------

    def can_run(self, task: Task) -> bool:
        """Whether its CPU is free for it: no other task is non-preemptible there, and no interrupt is being handled."""
        interrupt = self.interrupted_by.get(task.cpu)
        if interrupt is not None:
            return interrupt is task
        if task.is_interrupt:
            return task.cpu not in self.irqs_off
        pinned = self.pinned_by.get(task.cpu)
        return pinned is None or pinned is task

    def pin(self, task: Task) -> None:
        """`task`, which is running, cannot be preempted from here on."""
        if task.is_interrupt:
            self.interrupted_by[task.cpu] = task
        else:
            self.pinned_by[task.cpu] = task
        task.is_pinned = True

    def unpin(self, task: Task) -> None:
        """`task` can be preempted again."""
        table = self.interrupted_by if task.is_interrupt else self.pinned_by
        if table.get(task.cpu) is task:
            del table[task.cpu]
        task.is_pinned = False

    def disable_irqs(self, cpu: int) -> None:
        """Interrupts of `cpu` cannot start from here on."""
        self.irqs_off.add(cpu)

    def enable_irqs(self, cpu: int) -> None:
        """Interrupts of `cpu` can start again."""
        self.irqs_off.discard(cpu)

    def place(self, task: Task, cpu: int) -> None:
        """Put `task`, which is preemptible, on `cpu`."""
        task.cpu = cpu

    def wait_for_cpu(self) -> None:
        """The current task was moved between two points: returns when its CPU is free for it."""

    def bury(self, task: Task) -> None:
        """`task`, which is running, hit a BUG_ON: it keeps its locks, but gives up its CPU, as in make_task_dead()."""
        task.is_dead = True
        if task.is_pinned:
            self.unpin(task)
        self.on_death(task)

    def is_finished(self, task: Task) -> bool:
        """Whether `task` has nothing left to do: its body returned, or it is a daemon nobody has woken since."""
        return task.is_done or (task.is_daemon and task.is_parked and task.context is None)

    # -- what a backend calls -----------------------------------------------------------------------------

    def run(self) -> str:
        """Run the spawned tasks until all that are no daemons are done, or it must stop; return why: DONE, DEADLOCK,
        STEPS_MAX, INTERRUPTED.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give back threads or greenlets. The runtime is of no use afterwards."""

    def reset(self) -> None:
        """Forget the last execution. A pooled thread or greenlet may still name an old task: that must not keep its
        machine alive.
        """
        for task in self.tasks:
            task.body = _no_body
            task.held.clear()
        self.tasks = []
        self.points = 0
        self.is_sealed = False
        self.pinned_by = {}
        self.interrupted_by = {}
        self.irqs_off = set()
        self.current = Task(0, "boot", 0, _no_body)

    def unwind(self, task: Task) -> None:
        """A point after the end: the first one kills the task, those of its unwinding do nothing."""
        if not task.is_dead:
            task.is_dead = True
            raise TaskKilled

    def seal(self, reason: str) -> None:
        """End the execution: record why, close the journal, make points inert. Tasks are unwound after this."""
        if not self.is_sealed:
            self.on_stop(reason)
            self.is_sealed = True
            self.on_seal()


def _task_id(task: Task) -> int:
    return task.id


def _no_body() -> None:
    return None


def _ignore_task(task: Task) -> None:
    return None


def _ignore_reason(reason: str) -> None:
    return None
