# SPDX-License-Identifier: GPL-2.0-only
"""Executions of a kernel tree that end the process they run in: made in a copy of it first, and so a result.

What the engine can catch, it does: a bad pointer, an overflowing stack, an endless loop. Code under test that corrupts
memory which is not its own, or asks the operating system to end it, takes the process along. So a copy goes first. If
it dies, the run is made again in further copies, each given up after fewer points, until the last point before the
death is known: up to there it can be run and told like any other, and its schedule ends with the step that kills.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import resource
import signal
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from select import select
from typing import Any, Final, Generic, TypeVar

from stressvmap.journal.events import BUG, STOPPED
from stressvmap.journal.journal import DEATH, DIED_OF
from stressvmap.program import Program
from stressvmap.runtime.runtime import INTERRUPTED
from stressvmap.runtime.strategy import Schedule, Strategy
from stressvmap.sched.replay import ReplayStrategy
from stressvmap.stress.execution import Execution, Executor
from stressvmap.tree.backend import Standing, TreeBackend

DIED: Final = "died"
"""Why such an execution ended."""
CPU_SECONDS: Final = 30.0
CPU_SECONDS_A_POINT: Final = 1e-4
"""A copy that has used so much processor time, which no load on the machine makes more, is taken to hang."""
LOOK_SECONDS: Final = 0.25
ASLEEP_LOOKS: Final = 12
"""A copy that has no answer, and is found asleep so many times in a row, is taken to hang."""
FIRST_LIMIT: Final = 1024
"""Points after which the first of the further copies is given up."""
_TWICE: Final = 2
"""A run may leave behind what only the next one dies of."""

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of a copy."""

    how: str
    """How it ended; "": well."""
    value: T | None = None
    """What it found, if it ended well and raised nothing."""


def in_copy(act: Callable[[], T], points: int = 0) -> Outcome[T]:
    """Do it in a copy of this process, and nothing here. What it returns is pickled; what it raises is dropped.
    `points`: scheduling points that it makes at most.
    """
    ours, theirs = os.pipe()
    process = fork()
    if process == 0:
        _be_the_copy(act, theirs, CPU_SECONDS + CPU_SECONDS_A_POINT * points)
    os.close(theirs)
    try:
        answer, is_silent = _read(ours, process)
    finally:
        os.close(ours)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    if answer.endswith(_WELL):
        return Outcome("", pickle.loads(answer[: -len(_WELL)]))
    if is_silent:
        return Outcome("it sleeps for ever")
    return Outcome(ended(os.waitstatus_to_exitcode(status)))


def fork() -> int:
    """os.fork, without Python's word about threads: those of this package hold no lock that a copy would want."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


_WELL: Final = b"that was all"
"""An exit status of 0 says nothing: the code under test may have called exit()."""


def _be_the_copy(act: Callable[[], Any], answers: int, cpu_seconds: float) -> None:
    try:
        told = pickle.dumps(None)
        with suppress(BaseException):  # what it raises, it raises in the original as well
            end_with_parent()
            faulthandler.disable()
            _limit(resource.RLIMIT_CPU, int(cpu_seconds))
            _limit(resource.RLIMIT_CORE, 0)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            told = pickle.dumps(act())
        answer = memoryview(told + _WELL)
        while answer:
            answer = answer[os.write(answers, answer) :]
    finally:
        os._exit(1)


def end_with_parent() -> None:
    """On Linux: what hangs does not outlive who waits for it."""
    with suppress(AttributeError):
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def ended(code: int) -> str:
    """How a process ended: `SIGSEGV` for -11, `exit status 3` for 3."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # of the many for real time
        return f"signal {-code}"


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _read(answers: int, process: int) -> tuple[bytes, bool]:
    """All that a copy says, and whether it has fallen asleep over it."""
    told = bytearray()
    asleep = 0
    while asleep < ASLEEP_LOOKS:
        if not select([answers], [], [], LOOK_SECONDS)[0]:
            asleep = asleep + 1 if _is_asleep(process) else 0
            continue
        part = os.read(answers, 1 << 16)
        if not part:
            return bytes(told), False
        told += part
    return bytes(told), True


def _is_asleep(process: int) -> bool:
    """Whether it waits for something, which no load on the machine makes it do; by /proc."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Death:
    """The last point before one, and what followed."""

    limit: int
    """An execution given up after so many points, the process survives."""
    how: str
    """By a signal's name, an exit status, or silence."""


class Guard:
    """Tells of executions of one Executor, which must be of a tree, whether the process survives them."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.copies = 0
        """Made so far, for whoever watches."""

    @property
    def backend(self) -> TreeBackend:
        """What runs the tree."""
        backend = self.executor.backend
        assert isinstance(backend, TreeBackend)
        return backend

    def run(
        self, program: Program, strategy: Strategy, *, seed: int = 0, execution: int = 0, is_here: bool = False
    ) -> Execution | None:
        """What running `program` comes to if the process dies of it; None: it survives, so run it.

        Up to the last point before its death it is run in a copy, too; with `is_here` in this process, for whoever
        wants to ask strategy and runtime afterwards.
        """
        probe = partial(self.executor.run_unseen, program, strategy, execution=execution)
        death = self._death(probe)
        if death is None:
            return None

        def until_then() -> tuple[Execution, list[Standing]]:
            self.backend.limit(death.limit)
            done = self.executor.run(program, strategy, seed=seed, execution=execution)
            return done, self.backend.standing()

        told: tuple[Execution, list[Standing]] | None
        if is_here:
            try:
                told = until_then()
            finally:
                self.backend.limit(self.executor.scenario.steps_max)
        else:
            told = in_copy(until_then, death.limit).value
        return None if told is None else self._with_death(*told, death, program)

    def _death(self, probe: Callable[[], object]) -> Death | None:
        """Of `probe`, which makes one execution; None: the process survives it."""
        how = self.try_in_copy(probe)
        if not how:
            return None
        survived, fatal = 0, self.executor.scenario.steps_max
        while fatal - survived > 1:
            limit = min((survived + fatal) // 2, 4 * survived + FIRST_LIMIT)  # few runs are as long as they may be
            ended = self.try_in_copy(probe, limit)
            if ended:
                fatal, how = limit, ended
            else:
                survived = limit
        return Death(survived, how)

    def try_in_copy(self, attempt: Callable[[], object], limit: int | None = None, executions: int = 1) -> str:
        """How a copy ends that makes `attempt`, its executions given up after `limit` points; "": well."""

        def act() -> None:
            if limit is not None:
                self.backend.limit(limit)
            for _ in range(_TWICE):
                attempt()

        self.copies += 1
        most = self.executor.scenario.steps_max if limit is None else limit
        return in_copy(act, _TWICE * executions * most).how

    def _with_death(self, done: Execution, standing: list[Standing], death: Death, program: Program) -> Execution:
        """An execution that was given up where it dies: with the event that says so, and the step in its schedule."""
        who, schedule = self._last_step(done.schedule, standing, program)
        journal = done.journal
        events = [event for event in journal.events if event[0] != STOPPED]
        events.append((BUG, who.task, who.cpu, who.place, 0, DEATH, 0))
        events.append((STOPPED, 0, 0, "", 0, INTERRUPTED, 0))
        told = replace(journal, header={**journal.header, DIED_OF: death.how}, events=events)
        return replace(done, reason=DIED, journal=told, schedule=schedule)

    def _last_step(self, schedule: Schedule, standing: list[Standing], program: Program) -> tuple[Standing, Schedule]:
        """Which of the tasks that could go on there kills, and the schedule in which it does."""
        for who in standing:
            further = Schedule(_one_more(schedule.choices, who.task), list(schedule.draws))
            if self.try_in_copy(partial(self._follow, further, program)):
                return who, further
        return (standing or [Standing(0, 0, "")])[0], schedule

    def _follow(self, schedule: Schedule, program: Program) -> None:
        self.executor.run_unseen(program, ReplayStrategy(schedule, self.executor.tasks))


def _one_more(choices: Sequence[tuple[int, int]], task: int) -> list[tuple[int, int]]:
    if choices and choices[-1][0] == task:
        return [*choices[:-1], (task, choices[-1][1] + 1)]
    return [*choices, (task, 1)]
