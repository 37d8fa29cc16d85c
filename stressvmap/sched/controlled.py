# SPDX-License-Identifier: GPL-2.0-only
"""ControlledRuntime: every task a greenlet of one OS thread, switched only at points, by a strategy.

An execution is a pure function of the machine's start, the program and the strategy's answers, which are recorded as
a Schedule. Control goes from task to task directly; the hub (whoever called `run`) is entered only at the end.
"""

from __future__ import annotations

from bisect import insort

from greenlet import GreenletExit, getcurrent, greenlet  # type: ignore[import-untyped]

from stressvmap.runtime.runtime import DEADLOCK, DONE, INTERRUPTED, STEPS_MAX, Runtime
from stressvmap.runtime.strategy import BLOCKED, COUNT_OVER, ENDED, START, WOKEN, Schedule, Strategy
from stressvmap.runtime.task import BugOn, Task, TaskKilled


class _Slot:
    """A pooled greenlet and the task it runs. Creating a greenlet costs more than switching to one ten times."""

    __slots__ = ("greenlet", "task")

    def __init__(self, runtime: ControlledRuntime) -> None:
        self.task: Task | None = None
        self.greenlet = greenlet(lambda: runtime._serve(self), runtime._hub)


class ControlledRuntime(Runtime):
    """Runs tasks in the order a strategy decides. `schedule` is what was decided in the current execution."""

    def __init__(self, strategy: Strategy) -> None:
        super().__init__()
        self.strategy = strategy
        self.schedule = Schedule()
        self.failure: BaseException | None = None
        """What the strategy raised, or a task that no model may raise; `run` raises it again."""
        self._left = 0
        """Points the current task may still announce before the strategy is asked."""
        self._since = 0
        """`points` at the last decision."""
        self._was_woken = False
        self._can_merge = False
        """The last segment ended at a point, so the next of the same task continues it."""
        self._ready: list[Task] = []
        """Tasks that are neither parked nor done, ascending by id."""
        self._hub: greenlet | None = None
        self._free: list[_Slot] = []
        self._reason = ""

    def point(self, kind: int, object_id: int, field: str) -> None:
        """Announce an operation; switches when the granted points are used up."""
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
            cpu = task.cpu
            self.on_migrate(task)
            if task.cpu != cpu and not self.can_run(task):
                self._reschedule(task, BLOCKED)
                return
        left = self._left - 1
        self._left = left
        if left <= 0:
            self._reschedule(task, WOKEN if self._was_woken else COUNT_OVER)

    def park(self) -> None:
        """Block the current task and run another."""
        task = self.current
        if self.is_sealed:
            self.unwind(task)
            raise TaskKilled
        task.is_parked = True
        self._ready.remove(task)
        self._reschedule(task, BLOCKED)

    def wake(self, task: Task) -> None:
        """Make `task` enabled; the strategy is asked at once if it wants that."""
        if task.is_parked:
            task.is_parked = False
            insort(self._ready, task, key=_task_id)
            if self.strategy.wants_wakeups:
                self._ask_soon()

    def unpin(self, task: Task) -> None:
        """The CPU is free; the strategy is asked at once if it wants that and somebody waited for it."""
        super().unpin(task)
        if self.strategy.wants_wakeups and any(other.cpu == task.cpu and other is not task for other in self._ready):
            self._ask_soon()

    def enable_irqs(self, cpu: int) -> None:
        """Likewise for an interrupt that waits."""
        super().enable_irqs(cpu)
        if self.strategy.wants_wakeups and any(other.cpu == cpu and other.is_interrupt for other in self._ready):
            self._ask_soon()

    def wait_for_cpu(self) -> None:
        """Let others run until the current task's new CPU is free."""
        task = self.current
        if not self.is_sealed and not self.can_run(task):
            self._reschedule(task, BLOCKED)

    def draw(self, n: int) -> int:
        """Ask the strategy, and record the answer."""
        if self.is_sealed:
            self.unwind(self.current)
            return 0
        value = self.strategy.draw(n)
        self.schedule.draws.append(value)
        return value

    def spawn(self, task: Task) -> None:
        """Add a task to the execution."""
        super().spawn(task)
        if not task.is_parked:
            insort(self._ready, task, key=_task_id)

    def reset(self) -> None:
        """Forget the last execution."""
        super().reset()
        self._ready = []
        self.schedule = Schedule()
        self.failure = None
        self._can_merge = False

    def run(self) -> str:
        """Run until no task is enabled, or steps_max; unwinds whatever is left if that was not the end of the
        program.
        """
        self._hub = getcurrent()
        self._reason = ""
        self._left = 0
        try:
            first = self._next(None, START)
            if first is not None:
                self._enter(first)
        except BaseException as error:
            # An interrupt from the keyboard in the midst of a switch; it has ended the greenlet it came in.
            self.failure = error
            self._free = [slot for slot in self._free if not slot.greenlet.dead]
        if self.failure is not None:
            self._reason = INTERRUPTED
        if self._reason != DONE:
            self.seal(self._reason)
            self._unwind_all()
        if self.failure is not None:
            raise self.failure
        return self._reason

    def close(self) -> None:
        """End the pooled greenlets: one that is merely dropped keeps its stack, and all that is on it, for ever."""
        for slot in self._free:
            slot.greenlet.parent = getcurrent()
            slot.greenlet.throw(GreenletExit)
        self._free.clear()

    # -- inside -------------------------------------------------------------------------------------------

    def _reschedule(self, task: Task, why: int) -> None:
        """Give control to whoever is next; returns when it is this task's turn again."""
        chosen = self._next(task, why)
        if chosen is task:
            return
        if chosen is None:
            assert self._hub is not None
            self._hub.switch()
        else:
            self._enter(chosen)
        if self.is_sealed:
            raise TaskKilled

    def _next(self, task: Task | None, why: int) -> Task | None:
        """The task to run next, or None with `_reason` or `failure` set."""
        if task is not None:
            self._record(task, why)
        if self.points >= self.steps_max:
            self._reason = STEPS_MAX
            return None
        enabled = self._enabled()
        if not enabled:
            is_done = all(self.is_finished(t) for t in self.tasks)
            self._reason = DONE if is_done else DEADLOCK
            return None
        strategy = self.strategy
        strategy.points = self.points
        try:
            chosen, count = strategy.decide(enabled, task, why)
        except (
            BaseException
        ) as error:  # not to be raised here: it would go through the code of whichever task was running
            self.failure = error
            return None
        self._left = min(count, self.steps_max - self.points)
        self._since = self.points
        self._was_woken = False
        self.current = chosen
        return chosen

    def _ask_soon(self) -> None:
        """Ask the strategy at the current task's next point, and say that it is for a task that became enabled."""
        self._was_woken = self._was_woken or self._left > 1
        self._left = 1

    def _enabled(self) -> list[Task]:
        """The ready tasks that `can_run`: asked at every decision, so written out."""
        pinned_by, interrupted_by = self.pinned_by, self.interrupted_by
        if not pinned_by and not interrupted_by and not self.irqs_off:
            return self._ready
        enabled = []
        for task in self._ready:
            cpu = task.cpu
            if cpu in interrupted_by:
                if interrupted_by[cpu] is task:
                    enabled.append(task)
            elif task.is_interrupt:
                if cpu not in self.irqs_off:
                    enabled.append(task)
            elif cpu not in pinned_by or pinned_by[cpu] is task:
                enabled.append(task)
        return enabled

    def _record(self, task: Task, why: int) -> None:
        """Append what the last decision came to: a grant of so many points to `task` repeats it exactly."""
        count = self.points - self._since + (0 if why in (COUNT_OVER, WOKEN) else 1)
        choices = self.schedule.choices
        if self._can_merge and choices[-1][0] == task.id:
            choices[-1] = (task.id, choices[-1][1] + count)
        else:
            choices.append((task.id, count))
        self._can_merge = why in (COUNT_OVER, WOKEN)

    def _enter(self, task: Task) -> None:
        slot = task.context
        if slot is None:
            slot = self._free.pop() if self._free else _Slot(self)
            slot.task = task
            task.context = slot
        assert isinstance(slot, _Slot)
        slot.greenlet.switch()

    def _serve(self, slot: _Slot) -> None:
        """Body of a pooled greenlet: run the slot's task, hand over, wait for the next."""
        while True:
            task = slot.task
            assert task is not None
            try:
                task.body()
            except TaskKilled:
                task.is_dead = True
            except BugOn:
                self.bury(task)
            except BaseException as error:
                task.is_dead = True
                if self.failure is None:
                    self.failure = error
                if not self.is_sealed:
                    self._record(task, ENDED)
            slot.task = None
            task.context = None
            self._free.append(slot)
            if not task.is_parked:  # a task that is unwound may be
                self._ready.remove(task)
            if task.is_daemon and not task.is_dead:
                task.is_parked = True
            else:
                task.is_done = True
            assert self._hub is not None
            if self.is_sealed or self.failure is not None:
                self._hub.switch()
                continue
            chosen = self._next(task, ENDED)
            if chosen is None:
                self._hub.switch()
            else:
                self._enter_from(slot, chosen)

    def _enter_from(self, slot: _Slot, task: Task) -> None:
        """Like `_enter`, from a greenlet whose task has ended and which may be the very slot that is re-used."""
        if task.context is None and self._free and self._free[-1] is slot:
            self._free.pop()
            slot.task = task
            task.context = slot
            return
        self._enter(task)

    def _unwind_all(self) -> None:
        for task in self.tasks:
            slot = task.context
            if slot is not None:
                assert isinstance(slot, _Slot)
                self.current = task
                task.is_dead = True
                if not slot.greenlet.dead:
                    slot.greenlet.throw(TaskKilled)


def _task_id(task: Task) -> int:
    return task.id
