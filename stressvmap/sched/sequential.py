# SPDX-License-Identifier: GPL-2.0-only
"""SequentialRuntime: one call at a time, each to its end; interrupts are served where they are raised, other daemons at
the end of a call.

For stateful tests and single-task comparisons, where concurrency would only hide what is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from stressvmap.errors import HarnessError
from stressvmap.runtime.runtime import DEADLOCK, DONE, STEPS_MAX, Runtime
from stressvmap.runtime.task import BugOn, Task, TaskKilled


class SequentialRuntime(Runtime):
    """Tasks run one after the other, in the order of their ids; a task never loses its CPU."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._random = Random(seed)
        self._is_stuck = False

    def point(self, kind: int, object_id: int, field: str) -> None:
        """Count the step."""
        task = self.current
        if self.is_sealed:
            self.unwind(task)
            return
        task.pending_kind = kind
        task.pending_object = object_id
        task.pending_field = field
        self.points += 1
        task.points += 1
        if task.points >= task.migrate_at:
            self.on_migrate(task)
        if self.points >= self.steps_max:
            self._stop(STEPS_MAX)

    def park(self) -> None:
        """Serve daemons until the current task is woken; if none can be, it is stuck for ever."""
        task = self.current
        if self.is_sealed:
            task.is_dead = True
            raise TaskKilled
        task.is_parked = True
        while task.is_parked:
            if not self._serve_one():
                self._stop(DEADLOCK)

    def wake(self, task: Task) -> None:
        """Make `task` enabled; an interrupt is served at once if its CPU takes it."""
        if not task.is_parked:
            return
        task.is_parked = False
        if task.is_interrupt and task.context is None and self.can_run(task):
            self._serve(task)

    def draw(self, n: int) -> int:
        """A number from the runtime's own seed."""
        return self._random.randrange(n)

    def run(self) -> str:
        """Run each task that is not done to its end, in order."""
        for task in self.tasks:
            if not task.is_daemon and not task.is_done:
                reason = self.call(task, task.body)
                task.is_done = True
                if reason != DONE:
                    return reason
        return DONE

    def call(self, task: Task, body: Callable[[], None]) -> str:
        """Run `body` as `task`, then the daemons it left something to do. Returns DONE, DEADLOCK or STEPS_MAX."""
        if self.is_sealed:
            raise HarnessError("the execution is over")
        outer = self.current
        self.current = task
        task.is_parked = False
        self._reason = DONE
        try:
            body()
            while self._serve_one():
                pass
        except BugOn:
            self.bury(task)
        except TaskKilled:
            task.is_dead = True
        finally:
            self.current = outer
        return self._reason

    _reason = DONE

    def _stop(self, reason: str) -> None:
        self._reason = reason
        self.seal(reason)
        self.current.is_dead = True
        raise TaskKilled

    def _serve_one(self) -> bool:
        for daemon in self.tasks:
            if (
                daemon.is_daemon
                and not daemon.is_parked
                and not daemon.is_dead
                and daemon.context is None
                and self.can_run(daemon)
            ):
                self._serve(daemon)
                return True
        return False

    def _serve(self, daemon: Task) -> None:
        """Run an idle daemon; `context` marks those that stand on the stack."""
        outer = self.current
        self.current = daemon
        daemon.context = self
        try:
            daemon.body()
            daemon.is_parked = True
        except BugOn:
            self.bury(daemon)
        finally:
            daemon.context = None
            self.current = outer
