# SPDX-License-Identifier: GPL-2.0-only
"""Shrinking: the shortest program and schedule that still show one violation.

**What "the same" means.** A candidate shows the same violation if it has the same fingerprint: the check, the kernel
functions and lock state involved, no address, no count. So a smaller block or another CPU is the same bug, and a
shrunk failure never turns into another one that is easier to reach (shrinkers call that slippage).

**What "smaller" means.** Sizes are compared as tuples, the most expensive for a reader first: tasks, operations,
injected faults and migrations, CPUs, pages of a block, largest piece, pages mapped, points paused, slots; then the
schedule: preemptions (switches away from a task that could have gone on), those of them inside an operation, how far
inside they are, switches of any kind, points. The order matters in two ways. It is well-founded, and only what is
strictly smaller is ever taken, so shrinking ends. And the program comes before the schedule: when an operation is
dropped, the schedule that is found for the rest may have more preemptions than the one before, and that is still
progress, for the preemptions of a short program are soon dropped, whereas a program that is made to keep its
preemptions stays long.

**How a schedule survives.** A recorded schedule counts points, and none of its numbers fits a program with one
operation less. So candidates run by *legs* (sched/follow.py), which place each preemption in an operation; where that
does not show the violation any more, the program without preemptions is tried in several orders of its tasks, then its
legs with one preemption a little earlier or later, then a bounded number of schedules with no more preemptions than the
best had, drawn from a seed. This search is dear, so it is made only in a round that follows one without it that changed
nothing. Whatever is found is recorded as it ran, so the best is at any time an ordinary saved schedule.

**What a pass guarantees.** Each pass changes one kind of thing and ends when none of its changes is smaller and shows
the violation; together they are repeated until a whole round changes nothing. So of the result: no task, no single
operation (or run of 2, 4, ... operations, aligned), no fault and no migration can be left out, no two tasks can be
one, no preemption can be left out or moved to a boundary by itself - always up to the schedules that were tried, for
only `explore` tries all. Dropping operations by runs of halving length is the second half of ddmin (Zeller,
Hildebrandt, "Simplifying and isolating failure-inducing input", TSE 2002), whose result is 1-minimal; passes to a
fixpoint under a shortlex order are Hypothesis's (internal/conjecture/shrinker.py). Two passes exist because deletion
alone gets stuck: one makes pieces larger *while* it drops another (a block filled by four pieces is filled by two), or
drops an operation together with the fault that would then hit the next one; one lets one task do what two did.

Every candidate is a deterministic run, and the draws of the search depend on the candidate alone, so a shrink of the
same file gives the same result, unless it is stopped by a time, and what was shrunk to the end does not shrink further.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain, islice, permutations
from random import Random
from typing import Final

from stressvmap.checks.base import Violation
from stressvmap.errors import HarnessError, PatchError
from stressvmap.program import PAUSE, Program
from stressvmap.quantity import counted
from stressvmap.runtime.runtime import STEPS_MAX
from stressvmap.runtime.strategy import Strategy
from stressvmap.sched.follow import FollowStrategy, Leg, LegRecorder
from stressvmap.sched.replay import PrefixStrategy, ReplayStrategy
from stressvmap.stress import subject
from stressvmap.stress import variant as change
from stressvmap.stress.execution import Execution, Executor
from stressvmap.stress.guard import DIED, Guard
from stressvmap.stress.judge import Judge
from stressvmap.stress.replay import saved_from
from stressvmap.stress.schedule_file import SavedSchedule
from stressvmap.stress.variant import SIZED, Op, Variant

SEARCH_TRIES: Final = 24
"""Schedules drawn for a program whose legs do not show the violation any more ..."""
SEARCH_OPERATIONS_MAX: Final = 40
"""... if it has no more operations than this: a longer one is made shorter in cheaper ways first."""
TRADE_OPERATIONS_MAX: Final = 12
"""Trades grow with the square of the operations, so they are searched for in shorter programs only."""
ORDERS_MAX: Final = 6
NUDGED_MAX: Final = 4
NUDGES_MAX: Final = 32
"""Schedules with one preemption moved within its operation, where there are no more than NUDGED_MAX."""
ONE_PREEMPTION_MAX: Final = 400
"""Places for a single preemption that are tried one after the other."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a reader has to take in. `program` and `schedule` are what is compared, in this order."""

    program: tuple[int, ...]
    schedule: tuple[int, ...]

    @property
    def tasks(self) -> int:
        """Tasks of the program."""
        return self.program[0]

    @property
    def operations(self) -> int:
        """Operations of all tasks."""
        return self.program[1]

    @property
    def preemptions(self) -> int:
        """Switches away from a task that could have gone on."""
        return self.schedule[0]

    def __lt__(self, other: Size) -> bool:
        return (self.program, self.schedule) < (other.program, other.schedule)

    def __str__(self) -> str:
        return ", ".join(
            (
                counted(self.tasks, "task"),
                counted(self.operations, "operation"),
                counted(self.preemptions, "preemption"),
            )
        )


@dataclass(slots=True)
class Shown:
    """A variant that was run and showed the violation, with what is known from that run."""

    variant: Variant
    """Its legs are those that were taken."""
    saved: SavedSchedule
    size: Size
    lengths: dict[Op, int]
    """Points of each operation that was begun."""
    order: list[Op]
    """All operations, as they were begun; those that never were come last."""


@dataclass(slots=True)
class Shrunk:
    """What shrinking came to."""

    before: Size | None = None
    """None: the violation did not recur at all."""
    best: Shown | None = None
    tries: int = 0
    is_stopped: bool = False
    """Somebody asked for its end."""
    is_over_budget: bool = False
    """A budget was used up before nothing could be made smaller."""

    @property
    def is_smaller(self) -> bool:
        """Whether anything was gained."""
        return self.best is not None and self.before is not None and self.best.size < self.before


class _Enough(Exception):
    pass


class Shrinker:
    """Shrinks one saved schedule. `best` only ever becomes smaller."""

    def __init__(
        self,
        saved: SavedSchedule,
        *,
        seconds: float | None = None,
        tries: int | None = None,
        stop: Callable[[], int] | None = None,
        on_better: Callable[[Shown], None] | None = None,
        on_try: Callable[[Shrunk], None] | None = None,
        executor: Executor | None = None,
    ) -> None:
        """`on_better` is told of each improvement, the first sight included; `stop` is asked before each candidate."""
        self.saved = saved
        self.version = subject.load(saved.version)
        self.result = Shrunk()
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._tries_max = tries
        self._stop = stop
        self._on_better = on_better
        self._on_try = on_try
        self._seen: set[bytes] = set()
        """Digests of the candidates that were tried."""
        self._fingerprint = saved.fingerprint
        self._judge = Judge(saved.scenario.limits, (saved.check,) if saved.check else ())
        self._may_give_up = saved.reason == STEPS_MAX
        """The violation is of an execution that was given up, so a candidate may be, too."""
        self._is_searching = False
        """Only in a round after one that changed nothing: what legs alone can do is cheap."""
        self.executor = Executor(self.version, saved.scenario) if executor is None else executor

    def run(self) -> Shrunk:
        """Shrink until nothing helps, or a budget is used up, or `stop` says so."""
        result = self.result
        try:
            if self._begin():
                assert result.best is not None
                result.before = result.best.size
                self._rounds()
        except _Enough:
            pass
        finally:
            self.executor.close()
        if result.best is not None:
            self._confirm(result.best.saved)
        return result

    @property
    def best(self) -> Shown:
        """The smallest so far."""
        assert self.result.best is not None
        return self.result.best

    def _begin(self) -> bool:
        """Show the violation for a start: by the schedule itself, or as far as it fits, or by a search."""
        saved = self.saved
        start = Variant(saved.scenario, saved.program, (), tuple(saved.schedule.draws))
        exact = PrefixStrategy(saved.schedule, FollowStrategy(), self.executor.tasks)
        if self._try(start, exact):
            return True
        return any(self._try(replace(start, legs=legs)) for legs in self._plans(start, 10 * SEARCH_TRIES))

    def _confirm(self, saved: SavedSchedule) -> None:
        """What is handed over replays to the letter; a run that does not is a bug of ours."""
        executor = Executor(self.version, saved.scenario)
        strategy = ReplayStrategy(saved.schedule, executor.tasks)
        done = self._execute(saved.program, strategy, executor)
        if done.reason != DIED:
            strategy.check_used_up(done.points)
        executor.close()
        if done.journal.digest() != saved.journal_digest:
            raise HarnessError("the shrunk schedule does not give its journal again")

    # -- candidates ---------------------------------------------------------------------------------------

    def _attempt(self, candidate: Variant, *, search: bool = False) -> bool:
        """Take the candidate if it shows the violation and is smaller; with `search`, also under other schedules."""
        size = change.program_size(candidate)
        if not candidate.program.tasks or size > self.best.size.program:
            return False
        if self._try(candidate):
            return True
        if not search or not self._is_searching or size >= self.best.size.program or size[1] > SEARCH_OPERATIONS_MAX:
            return False
        return any(self._try(replace(candidate, legs=legs)) for legs in self._plans(candidate, SEARCH_TRIES))

    def _try(self, candidate: Variant, strategy: Strategy | None = None) -> bool:
        """Run the candidate, by `strategy` or its legs. True if it became the best."""
        key = blake2b(candidate.key().encode(), digest_size=16).digest()
        if strategy is None and key in self._seen:
            return False
        self._require_budget()
        self._seen.add(key)
        self.result.tries += 1
        shown = self._run(candidate, strategy)
        if self._on_try is not None:
            self._on_try(self.result)
        if shown is None:
            return False
        self.result.best = shown
        if self._on_better is not None:
            self._on_better(shown)
        return True

    def _require_budget(self) -> None:
        result = self.result
        if self._stop is not None and self._stop():
            result.is_stopped = True
            raise _Enough
        if self._tries_max is not None and result.tries >= self._tries_max:
            result.is_over_budget = True
            raise _Enough
        if self._deadline is not None and time.monotonic() >= self._deadline:
            result.is_over_budget = True
            raise _Enough

    def _run(self, candidate: Variant, strategy: Strategy | None) -> Shown | None:
        """What the candidate shows, if that is the violation and it is smaller than the best."""
        executor = self.executor
        scenario = candidate.scenario
        if not self._may_give_up and self.result.best is not None:
            points = self.best.size.schedule[-1]
            scenario = replace(scenario, steps_max=min(scenario.steps_max, 4 * points + 1000))
        if scenario != executor.scenario:
            executor.change_scenario(scenario)
        if strategy is None:
            strategy = FollowStrategy(candidate.legs, executor.position, candidate.draws)
        recorder = LegRecorder(strategy, executor.position)
        try:
            done = self._execute(candidate.program, recorder)
        except PatchError:
            if self.result.tries == 1:
                raise  # it is the schedule itself that the patch fails on
            return None
        if done.reason == STEPS_MAX and not self._may_give_up:
            return None
        violation = self._violation(done)
        return None if violation is None else self._shown(candidate, done, recorder, violation)

    def _execute(self, program: Program, strategy: Strategy, executor: Executor | None = None) -> Execution:
        """Run it; if the violation is that the process dies, in a copy first."""
        executor = executor or self.executor
        seed, execution = self.saved.seed, self.saved.execution
        if self.saved.reason == DIED:
            died = Guard(executor).run(program, strategy, seed=seed, execution=execution, is_here=True)
            if died is not None:
                return died
        return executor.run(program, strategy, seed=seed, execution=execution)

    def _violation(self, done: Execution) -> Violation | None:
        for violation in self._judge.execution(done.journal).violations:
            if not self._fingerprint:  # the file was kept for none: the first there is
                self._fingerprint = violation.fingerprint
            if violation.fingerprint == self._fingerprint:
                return violation
        return None

    def _shown(self, candidate: Variant, done: Execution, recorder: LegRecorder, violation: Violation) -> Shown | None:
        executor = self.executor
        starts = executor.backend.starts
        points = {task.id: task.points for task in executor.runtime.tasks}
        lengths: dict[Op, int] = {}
        begun: list[tuple[int, Op]] = []
        for t in range(len(candidate.program.tasks)):
            mine = [*starts[t + 1], (points[t + 1], 0)]
            for k in range(len(mine) - 1):
                lengths[t, k] = mine[k + 1][0] - mine[k][0]
                begun.append((mine[k][1], (t, k)))
        order = [op for _, op in sorted(begun)]
        order += [op for op in change.operations(candidate.program) if op not in lengths]
        legs = tuple(recorder.taken)
        inside = [_distance(leg, lengths) for leg in legs if leg.is_preempted]
        schedule = (len(inside), sum(1 for d in inside if d), sum(inside), len(done.schedule.choices), done.points)
        size = Size(change.program_size(candidate), schedule)
        if self.result.best is not None and not size < self.best.size:
            return None
        saved = saved_from(
            executor, candidate.program, done, violation,
            version=self.saved.version, seed=self.saved.seed, strategy=self.saved.strategy,
        )  # fmt: skip
        saved.scenario = candidate.scenario
        taken = replace(candidate, legs=legs, draws=tuple(done.schedule.draws))
        return Shown(taken, saved, size, lengths, order)

    def _plans(self, variant: Variant, count: int) -> Iterator[tuple[Leg, ...]]:
        """Schedules for a program whose own does not show the violation: without preemptions, then with a few."""
        tasks = range(1, len(variant.program.tasks) + 1)
        for order in islice(permutations(tasks), ORDERS_MAX):
            yield tuple(Leg(task) for task in order)
        if count and sum(leg.is_preempted for leg in variant.legs) <= NUDGED_MAX:
            yield from islice(_nudged(variant.legs), NUDGES_MAX)
        most = max(1, self.best.size.preemptions) if self.result.best is not None else 3
        longest = max(self.best.lengths.values(), default=1) if self.result.best is not None else 80
        random = Random(f"shrink/{self._fingerprint}/{replace(variant, legs=()).key()}")
        for _ in range(count if len(tasks) > 1 else 0):
            legs = []
            for _ in range(random.randint(1, most)):
                task = random.choice(tasks)
                op = random.randrange(len(variant.program.tasks[task - 1].ops))
                legs.append(Leg(task, op, random.randint(1, longest)))
            yield (*legs, *(Leg(task) for task in random.sample(tasks, len(tasks))))

    # -- passes -------------------------------------------------------------------------------------------

    def _rounds(self) -> None:
        passes = (
            self._drop_tasks,
            self._drop_operations,
            self._drop_injections,
            self._merge_tasks,
            self._trade,
            self._smaller_machine,
            self._smaller_operations,
            self._fewer_preemptions,
            self._move_preemptions,
        )
        while True:
            before = self.best
            for one in passes:
                one()
            if self.best is not before:
                self._is_searching = False
            elif self._is_searching:
                return
            else:
                self._is_searching = True

    def _drop_tasks(self) -> None:
        t = len(self.best.variant.program.tasks) - 1
        while t >= 0:
            variant = self.best.variant
            mine = [(t, k) for k in range(len(variant.program.tasks[t].ops))]
            self._attempt(change.without(variant, mine), search=True)
            t = min(t, len(self.best.variant.program.tasks)) - 1

    def _drop_operations(self) -> None:
        """ddmin's complements: runs of half the operations, a quarter, ... one; then a mapping and its unmapping."""
        length = max(1, len(change.operations(self.best.variant.program)) // 2)
        while length:
            at = 0
            while at < len(all_ops := change.operations(self.best.variant.program)):
                dropped = set(all_ops[at : at + length])
                if not self._attempt(change.without(self.best.variant, dropped), search=True):
                    at += length
            length //= 2
        while any(self._attempt(fewer, search=True) for fewer in change.without_one_use(self.best.variant)):
            pass

    def _drop_injections(self) -> None:
        program = self.best.variant.program
        count = len(program.faults) + len(program.migrations)
        if count and self._attempt(change.without_injections(self.best.variant, range(count)), search=True):
            return
        for number in reversed(range(count)):
            self._attempt(change.without_injections(self.best.variant, {number}), search=True)

    def _merge_tasks(self) -> None:
        """One task for two: its operations in the order they were begun, or those of one after those of the other."""
        for a, b in permutations(range(len(self.best.variant.program.tasks)), 2):
            tasks = self.best.variant.program.tasks
            if max(a, b) >= len(tasks):
                continue
            one_by_one = [(t, k) for t in (a, b) for k in range(len(tasks[t].ops))]
            if not self._attempt(change.merged(self.best.variant, a, b, self.best.order), search=True):
                self._attempt(change.merged(self.best.variant, a, b, one_by_one), search=True)

    def _trade(self) -> None:
        """Fewer operations at a price: deletion alone keeps a block that is filled by four pieces."""
        is_short = True
        while is_short:
            operations = len(change.operations(self.best.variant.program))
            is_short = operations <= SEARCH_OPERATIONS_MAX and any(
                self._attempt(traded, search=operations <= TRADE_OPERATIONS_MAX)
                for traded in chain(change.trades(self.best.variant), change.with_a_task_moved(self.best.variant))
            )

    def _smaller_machine(self) -> None:
        while any(self._attempt(v, search=True) for v in change.on_fewer_cpus(self.best.variant)):
            pass
        while any(self._attempt(v, search=True) for v in change.with_smaller_blocks(self.best.variant)):
            pass

    def _smaller_operations(self) -> None:
        for t, k in change.operations(self.best.variant.program):
            is_changed = True
            while is_changed:
                op = self.best.variant.program.tasks[t].ops[k]
                least = 0 if op.kind == PAUSE else 1
                if op.kind not in (*SIZED, PAUSE):
                    break
                smaller = sorted({n for n in (least, op.pages // 2, op.pages - 1) if least <= n < op.pages})
                is_changed = any(self._attempt(change.with_pages(self.best.variant, (t, k), n)) for n in smaller)
        self._attempt(change.with_packed_slots(self.best.variant))

    def _fewer_preemptions(self) -> None:
        """None at all; or without runs of legs of halving length; or each by itself; or only one, anywhere."""
        if not self.best.size.preemptions:
            return
        if any(self._attempt(replace(self.best.variant, legs=legs)) for legs in self._plans(self.best.variant, 0)):
            return
        length = len(self.best.variant.legs) // 2
        while length > 1:
            at = 0
            while at < len(legs := self.best.variant.legs):
                if not self._attempt(replace(self.best.variant, legs=legs[:at] + legs[at + length :])):
                    at += length
            length //= 2
        at = 0
        while at < len(self.best.variant.legs):
            legs = self.best.variant.legs
            is_changed = legs[at].is_preempted and any(
                self._attempt(replace(self.best.variant, legs=fewer)) for fewer in _staying(legs, at)
            )
            at += not is_changed
        if self.best.size.preemptions > 1:
            plans = islice(self._one_preemption(), ONE_PREEMPTION_MAX)
            any(self._attempt(replace(self.best.variant, legs=legs)) for legs in plans)

    def _one_preemption(self) -> Iterator[tuple[Leg, ...]]:
        """One task up to some point, then all others, then the rest of it; operations' boundaries first."""
        program, lengths = self.best.variant.program, self.best.lengths
        others = {t + 1: [Leg(o + 1) for o in range(len(program.tasks)) if o != t] for t in range(len(program.tasks))}
        for offset in range(1, max(lengths.values(), default=0) + 1):
            for (t, k), length in lengths.items():
                if offset <= length:
                    yield (Leg(t + 1, k, offset), *others[t + 1], Leg(t + 1))

    def _move_preemptions(self) -> None:
        """Towards the boundaries of operations: all the way, half the way, a point."""
        at = 0
        while at < len(self.best.variant.legs):
            shown = self.best
            legs = shown.variant.legs
            is_changed = any(
                self._attempt(replace(shown.variant, legs=(*legs[:at], moved, *legs[at + 1 :])))
                for moved in _nearer(legs[at], shown.lengths)
            )
            at += not is_changed


def _distance(leg: Leg, lengths: dict[Op, int]) -> int:
    """Points from a preemption to the nearer boundary of its operation; 0 for a task that has none."""
    if leg.op < 0:
        return 0
    length = lengths.get((leg.task - 1, leg.op), leg.offset)
    return max(0, min(leg.offset - 1, length + 1 - leg.offset))


def _nudged(legs: tuple[Leg, ...]) -> Iterator[tuple[Leg, ...]]:
    """Each preemption a little earlier or later: on other CPUs its place may be one where none is possible."""
    for by in range(1, NUDGES_MAX):
        for at, leg in enumerate(legs):
            if leg.op >= 0:
                for offset in (leg.offset - by, leg.offset + by):
                    if offset > 0:
                        yield (*legs[:at], replace(leg, offset=offset), *legs[at + 1 :])


def _staying(legs: tuple[Leg, ...], at: int) -> Iterator[tuple[Leg, ...]]:
    """Ways to do without the preemption that ends leg `at`."""
    leg = legs[at]
    yield (*legs[:at], Leg(leg.task), *legs[at + 1 :])
    following = next((n for n in range(at + 1, len(legs)) if legs[n].task == leg.task), None)
    if following is not None:
        yield (*legs[:at], legs[following], *legs[at + 1 : following], *legs[following + 1 :])
    yield (*legs[:at], *legs[at + 1 :])
    yield (*legs[: at + 1], *legs[at + 2 :])
    yield (*legs[:at], Leg(leg.task))


def _nearer(leg: Leg, lengths: dict[Op, int]) -> Iterator[Leg]:
    """The preemption nearer to either boundary of its operation, at the boundary first."""
    if _distance(leg, lengths) == 0:
        return
    length = lengths.get((leg.task - 1, leg.op), leg.offset)
    yield Leg(leg.task, leg.op, 1)
    if (leg.task - 1, leg.op + 1) in lengths:
        yield Leg(leg.task, leg.op + 1, 1)
    back, forth = leg.offset - 1, length + 1 - leg.offset
    for step in sorted({back // 2, forth // 2, 1} - {0}, reverse=True):
        if back <= forth:
            yield replace(leg, offset=leg.offset - step)
        else:
            yield replace(leg, offset=leg.offset + step)
