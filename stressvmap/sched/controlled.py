# SPDX-License-Identifier: GPL-2.0-only
"""ControlledRuntime: every task a greenlet of one OS thread, switched only at points, by a strategy.

An execution is a pure function of the machine's start, the program and the strategy's answers, which are recorded as
a Schedule. Control goes from task to task directly; the hub (whoever called `run`) is entered only at the end.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from greenlet import GreenletExit, getcurrent, greenlet  # type: ignore[import-untyped]

from stressvmap.runtime.pairs import Pairs
from stressvmap.runtime.runtime import DEADLOCK, DONE, INTERRUPTED, STEPS_MAX, Runtime
from stressvmap.runtime.strategy import BLOCKED, COUNT_OVER, ENDED, START, WOKEN, Schedule, Strategy
from stressvmap.runtime.task import NEVER, BugOn, Task, TaskKilled

_AT_POINT: Final = (COUNT_OVER, WOKEN)
"""Reasons that leave a task at a point it has announced."""


class Slot:
    """A pooled greenlet and the task it runs. Creating a greenlet costs more than switching to one ten times."""

    __slots__ = ("_entered_from", "_runtime", "greenlet", "switch", "task")

    def __init__(self, runtime: ControlledRuntime) -> None:
        self.task: Task | None = None
        self.greenlet = greenlet(self._begin, runtime._hub)
        self._runtime = runtime
        self.switch: Callable[[], object] = self.greenlet.switch
        """Bound once: it is called at every second decision."""

    def enter(self) -> None:
        """Enter the greenlet for the first time; returns at once. It has the recursion depth of whoever does this."""
        self._entered_from: greenlet | None = getcurrent()
        self.switch()
        self._entered_from = None

    def _begin(self) -> None:
        assert self._entered_from is not None
        self._entered_from.switch()
        self._runtime._serve(self)


class ControlledRuntime(Runtime):
    """Runs tasks in the order a strategy decides. `schedule` is what was decided in the current execution.

    A point costs one comparison as long as nothing is due: `points` itself counts up to `_attend_at`, and what else
    there is to do or to count is done there. What is enabled is kept, not looked for: a decision does not cost more
    for more CPUs.
    """

    def __init__(self, strategy: Strategy) -> None:
        super().__init__()
        self.strategy = strategy
        self._choices = Pairs()
        self.schedule = Schedule(self._choices)
        self.failure: BaseException | None = None
        """What the strategy raised, or a task that no model may raise; `run` raises it again."""
        self.enabled: list[Task] = []
        """The ready tasks that `can_run`, ascending by id: what a strategy chooses from."""
        self._ready_on: defaultdict[int, list[Task]] = defaultdict(list)
        """By CPU: its tasks that are neither parked nor done."""
        self._attend_at = 0
        """The value of `points` at which the current task's next point has more to do than count."""
        self._ask_at = 0
        """The value of `points` at which the grant is used up; `_attend_at` is never above it."""
        self._counted = 0
        """`points` when the running task's own points were last brought up to date."""
        self._since = 0
        """`points` when the current task became that: what it has run since is one choice of the schedule."""
        self._why = COUNT_OVER
        """What the strategy will be told when the grant is used up."""
        self._is_special = False
        """A point that is attended to may be for more than a decision: the current task has migrations planned, or
        the execution is over.
        """
        self._walk: Callable[[], float] | None = None
        """The strategy's `walk`, in this execution."""
        self._hub: greenlet | None = None
        self._free: list[Slot] = []
        self._reason = ""

    def point(self, kind: int, object_id: int, field: str) -> None:
        """Announce an operation; switches when the granted points are used up."""
        task = self.current
        task.pending_kind = kind
        task.pending_object = object_id
        task.pending_field = field
        points = self.points + 1
        self.points = points
        if points < self._attend_at:
            return
        if self._is_special and not self._attend(task):
            return
        walk = self._walk
        if walk is None or points >= self.steps_max:
            chosen = self._next(task, self._why)
            if chosen is not task:
                self._switch_to(chosen)
            return
        # What `_next` and the strategy would do, without the asking, which is an eighth of what a point costs.
        enabled = self.enabled
        walked = enabled[int(walk() * len(enabled))]
        if walked is not task:
            task.points += points - self._counted
            self._counted = points
            self._hand_over(task, walked, COUNT_OVER)
            self._switch_to(walked)

    def own_points(self) -> int:
        """With those of the grant that is running."""
        return self.current.points + self.points - self._counted

    def park(self) -> None:
        """Block the current task and run another."""
        task = self.current
        if self.is_sealed:
            self.unwind(task)
            raise TaskKilled
        task.is_parked = True
        self._retire(task)
        self._reschedule(task, BLOCKED)

    def wake(self, task: Task) -> None:
        """Make `task` enabled; the strategy is asked at once if it wants that."""
        if task.is_parked:
            task.is_parked = False
            self._admit(task)
            if self.strategy.wants_wakeups:
                self._ask_soon()

    def pin(self, task: Task) -> None:
        """The CPU is `task`'s alone."""
        super().pin(task)
        if len(self._ready_on[task.cpu]) > 1:
            self._refresh(task.cpu)

    def unpin(self, task: Task) -> None:
        """The CPU is free; the strategy is asked at once if it wants that and somebody waited for it."""
        super().unpin(task)
        ready = self._ready_on[task.cpu]
        if len(ready) > 1 or (ready and ready[0] is not task):
            self._refresh(task.cpu)
            if self.strategy.wants_wakeups:
                self._ask_soon()

    def disable_irqs(self, cpu: int) -> None:
        """The CPU's interrupt cannot start."""
        super().disable_irqs(cpu)
        self._refresh(cpu)

    def enable_irqs(self, cpu: int) -> None:
        """It can; the strategy is asked at once if it wants that and one waits."""
        super().enable_irqs(cpu)
        self._refresh(cpu)
        if self.strategy.wants_wakeups and any(task.is_interrupt for task in self._ready_on[cpu]):
            self._ask_soon()

    def place(self, task: Task, cpu: int) -> None:
        """Put `task` on another CPU."""
        ready = self._ready_on[task.cpu]
        is_ready = task in ready
        if is_ready:
            ready.remove(task)
        super().place(task, cpu)
        if is_ready:
            self._ready_on[cpu].append(task)
            self._refresh(cpu)

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
            self._admit(task)

    def seal(self, reason: str) -> None:
        """End the execution; every point is attended to from here on, for it must do nothing."""
        super().seal(reason)
        self._attend_at = 0
        self._is_special = True

    def reset(self) -> None:
        """Forget the last execution; unwind what an interrupt from the keyboard at a bad moment has left of it."""
        if any(task.context is not None for task in self.tasks):
            self._give_up()
        super().reset()
        self.enabled = []
        self._ready_on = defaultdict(list)
        self._choices = Pairs()
        self.schedule = Schedule(self._choices)
        self.failure = None
        self._counted = 0

    def run(self) -> str:
        """Run until no task is enabled, or steps_max; unwinds whatever is left if that was not the end of the
        program.
        """
        self._hub = getcurrent()
        self._reason = ""
        self._walk = self.strategy.walk
        try:
            self._fill_pool()
            first = self._next(None, START)
            if first is not None:
                self._switch_to(first)
        except BaseException as error:
            # An interrupt from the keyboard in the midst of a switch; it has ended the greenlet it came in.
            self.failure = error
        if self.failure is not None:
            self._reason = INTERRUPTED
        if self._reason != DONE:
            self._give_up()
        if self.failure is not None:
            raise self.failure
        return self._reason

    def close(self) -> None:
        """End the pooled greenlets: one that is merely dropped keeps its stack, and all that is on it, for ever."""
        for slot in self._free:
            slot.greenlet.parent = getcurrent()
            slot.greenlet.throw(GreenletExit)
        self._free.clear()

    # -- who is enabled -----------------------------------------------------------------------------------

    def _admit(self, task: Task) -> None:
        """`task` is ready from here on."""
        self._ready_on[task.cpu].append(task)
        if self.can_run(task):
            insort(self.enabled, task, key=_task_id)

    def _retire(self, task: Task) -> None:
        """It is not: it parks or is done."""
        self._ready_on[task.cpu].remove(task)
        if task in self.enabled:
            self.enabled.remove(task)

    def _refresh(self, cpu: int) -> None:
        """Who occupies `cpu` has changed."""
        enabled = self.enabled
        for task in self._ready_on[cpu]:
            if self.can_run(task):
                if task not in enabled:
                    insort(enabled, task, key=_task_id)
            elif task in enabled:
                enabled.remove(task)

    # -- inside -------------------------------------------------------------------------------------------

    def _attend(self, task: Task) -> bool:
        """What a point may have to do but for a decision. Whether that is due too: the grant is used up, and `task`
        is still the one that runs.
        """
        if self.is_sealed:
            self.points -= 1
            self.unwind(task)
            return False
        task.points += self.points - self._counted
        self._counted = self.points
        if task.points >= task.migrate_at:
            cpu = task.cpu
            self.on_migrate(task)
            if task.cpu != cpu and not self.can_run(task):
                self._reschedule(task, BLOCKED)
                return False
        self._arm(task)
        return self.points >= self._ask_at

    def _arm(self, task: Task) -> None:
        """Attend to `task` when its grant is used up, or before that when it is due to migrate."""
        self._attend_at = min(self._ask_at, self._counted + task.migrate_at - task.points)

    def _reschedule(self, task: Task, why: int) -> None:
        """Give control to whoever is next; returns when it is this task's turn again."""
        chosen = self._next(task, why)
        if chosen is not task:
            self._switch_to(chosen)

    def _switch_to(self, chosen: Task | None) -> None:
        """Leave this greenlet for that of `chosen`, or for the hub; returns when somebody comes back."""
        if chosen is None:
            assert self._hub is not None
            self._hub.switch()
        else:
            slot: Slot = chosen.context or self._slot_of(chosen)
            slot.switch()

    def _next(self, task: Task | None, why: int) -> Task | None:
        """The task to run next, or None with `_reason` or `failure` set."""
        points = self.points
        if task is not None:
            task.points += points - self._counted
        self._counted = points
        enabled = self.enabled
        if not enabled or points >= self.steps_max:
            self._reason = self._why_over()
            self._record(task, why)
            return None
        strategy = self.strategy
        strategy.points = points
        try:
            chosen, count = strategy.decide(enabled, task, why)
        except BaseException as error:
            # Not to be raised here: it would go through the code of whichever task was running.
            self.failure = error
            self._record(task, why)
            return None
        if chosen is not task or why == ENDED:  # else it goes on, and so does its choice
            self._hand_over(task, chosen, why)
        self._why = COUNT_OVER
        ask_at = points + count
        if ask_at > self.steps_max:
            ask_at = self.steps_max
        self._attend_at = self._ask_at = ask_at
        if self._is_special:
            self._arm(chosen)
        return chosen

    def _hand_over(self, task: Task | None, chosen: Task, why: int) -> None:
        """`chosen` is the current task from here on; what `task` has run is a choice of the schedule."""
        self._record(task, why)
        self._since = self.points
        self.current = chosen
        self._is_special = chosen.migrate_at != NEVER

    def _why_over(self) -> str:
        if self.points >= self.steps_max:
            return STEPS_MAX
        return DONE if all(self.is_finished(task) for task in self.tasks) else DEADLOCK

    def _ask_soon(self) -> None:
        """Ask the strategy at the current task's next point, and say that it is for a task that became enabled."""
        if self._ask_at > self.points + 1:
            self._why = WOKEN
            self._ask_at = self._attend_at = self.points + 1

    def _record(self, task: Task | None, why: int) -> None:
        """Append what the decisions for `task` came to: a grant of so many points to it repeats them exactly."""
        if task is not None:
            is_midway = why not in _AT_POINT  # it has begun what follows its last point
            choices = self._choices
            choices.firsts.append(task.id)
            choices.seconds.append(self.points - self._since + is_midway)

    def _slot_of(self, task: Task) -> Slot:
        """The greenlet that runs `task`, from the pool if it has none yet."""
        slot: Slot | None = task.context
        if slot is None:
            slot = self._free[-1] if self._free else self._new_slot()
            slot.task = task
            task.context = slot
            if self._free:
                self._free.pop()  # last: an interrupt from the keyboard must not find it in neither place
        return slot

    def _fill_pool(self) -> None:
        """Enter as many greenlets from the hub as there are tasks: tasks that began one another would hand their
        recursion depth on, and come to an end of it.
        """
        while len(self._free) < len(self.tasks):
            self._free.append(self._new_slot())

    def _new_slot(self) -> Slot:
        slot = Slot(self)
        slot.enter()
        return slot

    def _serve(self, slot: Slot) -> None:
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
                self._retire(task)
            if task.is_daemon and not task.is_dead:
                task.is_parked = True
            else:
                task.is_done = True
            is_over = self.is_sealed or self.failure is not None
            chosen = None if is_over else self._next(task, ENDED)
            if chosen is None or self._slot_of(chosen) is not slot:
                self._switch_to(chosen)

    def _give_up(self) -> None:
        """Seal the execution and unwind its tasks, however often that is interrupted from the keyboard."""
        while True:
            try:
                self.seal(self._reason)
                for task in self.tasks:
                    self._unwind(task)
                break
            except KeyboardInterrupt as error:
                self.failure = error
        self._free = [slot for slot in self._free if not slot.greenlet.dead]

    def _unwind(self, task: Task) -> None:
        slot: Slot | None = task.context
        if slot is None:
            return
        self.current = task
        task.is_dead = True
        try:
            if not slot.greenlet.dead:
                slot.greenlet.throw(TaskKilled)
        except TaskKilled:
            pass  # it had not begun its task yet
        task.context = None


def _task_id(task: Task) -> int:
    return task.id
