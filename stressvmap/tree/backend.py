# SPDX-License-Identifier: GPL-2.0-only
"""A kernel tree's own C as a backend: programs in, decisions asked for or planned, the one journal out.

`TreeRuntime` is to a strategy what ControlledRuntime is, though the engine in the library does the running: tasks are
shown to the strategy as they stand, its answers and draws are the schedule, and what it raises ends the run.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from stressvmap import program as ops
from stressvmap.journal.events import FRAME_OWNER, PTE_CLEAR, PTE_SET, STOPPED, Event
from stressvmap.journal.journal import Journal
from stressvmap.journal.place import CALLERS, STACKS, where
from stressvmap.program import Program
from stressvmap.runtime.runtime import DONE, Runtime
from stressvmap.runtime.strategy import Plan, Schedule, Strategy
from stressvmap.runtime.task import Task
from stressvmap.scenario import Scenario
from stressvmap.tree.audit import Auditor
from stressvmap.tree.decode import Decoder
from stressvmap.tree.layout import layout_of
from stressvmap.tree.library import REASONS, ConfigView, Library, Loadable, TallyView, TaskView, loadable
from stressvmap.tree.screen import Screen
from stressvmap.tree.version import TreeVersion

WINDOW_PAGE: Final = 0x100000
"""Page of VMALLOC_START, the model's: so that addresses can be compared."""
DIRECT_MAP_PAGE: Final = 0x40000
CLEANUP_TASK: Final = 900
ENCODED_MAX: Final = 1 << 14
_OP_NUMBERS: Final = {
    kind: number
    for number, kind in enumerate(
        (
            ops.MAP,
            ops.UNMAP,
            ops.VMALLOC,
            ops.VMALLOC_RESET,
            ops.VFREE,
            ops.ALIASES,
            ops.TOUCH,
            ops.PROBE,
            ops.MIGRATE,
            ops.OFFLINE,
            ops.ONLINE,
            ops.PAUSE,
            ops.SHRINK,
            ops.WALK,
            ops.VFREE_ATOMIC,
        )
    )
}
"""enum sv_op_kind."""


class TreeTask(Task):
    """A task of the engine as a strategy sees it: read from the engine's memory when it is asked for."""

    __slots__ = ("library", "view")

    def __init__(self, view: TaskView, library: Library) -> None:
        self.view = view
        self.library = library
        super().__init__(
            view.id,
            library.text(view.name),
            view.cpu,
            _no_body,
            is_daemon=bool(view.is_daemon),
            is_interrupt=bool(view.is_interrupt),
        )

    def refresh(self) -> None:
        """Bring the plain attributes up to date."""
        view = self.view
        self.cpu = view.cpu
        self.points = view.points
        self.is_parked = bool(view.is_parked)
        self.is_done = bool(view.is_done)
        self.operation = view.operation
        self.operation_start = view.operation_start
        self.preempt_count = view.preempt_count
        self.rcu_depth = view.rcu_depth
        self.pending_kind = view.pending_kind
        self.pending_object = view.pending_object
        self.pending_field = str(view.pending_field)


class TreeRuntime(Runtime):
    """Lets a strategy decide an engine's runs. One library at a time: `attach`."""

    def __init__(self, strategy: Strategy) -> None:
        self.library: Library | None = None
        self._tasks: list[Task] = []
        self._schedule: Schedule | None = Schedule()
        super().__init__()
        self.strategy = strategy
        self.planned: tuple[Plan, int] | None = None
        """What the engine is to carry out in the next run, with its seed; None: the strategy is asked."""
        self.failure: BaseException | None = None
        self.backends: dict[Machine, TreeBackend] = {}
        """By machine: a library boots once, and what was loaded stays, so who goes to and fro between machines, as
        shrinking does, keeps them.
        """
        self._by_id: dict[int, TreeTask] = {}

    def attach(self, library: Library) -> None:
        """Run that library's tasks from now on."""
        self.library = library

    def begin(self) -> None:
        """A program was loaded."""
        self._tasks = []
        self._by_id = {}
        self._schedule = None
        self.failure = None
        self.is_sealed = False

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the run, ascending by id, as they stand."""
        if self.library is not None:
            views = self.library.tasks()
            if len(views) != len(self._tasks):
                for view in views:
                    if view.id not in self._by_id:
                        self._by_id[view.id] = TreeTask(view, self.library)
                self._tasks = [self._by_id[view.id] for view in views]
            for task in self._by_id.values():
                task.refresh()
        return self._tasks

    @tasks.setter
    def tasks(self, tasks: list[Task]) -> None:
        self._tasks = tasks

    @property
    def points(self) -> int:
        """Scheduling points of the run so far."""
        return 0 if self.library is None else self.library.points()

    @points.setter
    def points(self, points: int) -> None:
        """The engine counts."""

    @property
    def schedule(self) -> Schedule:
        """What was decided in the last run; read from the engine when it is first asked for, until the next load."""
        if self._schedule is None:
            library = self.library
            assert library is not None
            self._schedule = Schedule(library.choices(), library.draws())
        return self._schedule

    def run(self) -> str:
        """Run what is loaded. Raises what the strategy raised."""
        library = self.library
        assert library is not None
        planned, self.planned = self.planned, None
        if planned is None:
            library.decide_by(self._decide, self._draw, wants_wakeups=self.strategy.wants_wakeups)
        else:
            library.decide_by_plan(*planned)
        reason = library.run()
        self.is_sealed = True
        if self.failure is not None:
            raise self.failure
        return reason

    def _task(self, id: int) -> TreeTask:
        if id not in self._by_id:
            assert self.tasks
        return self._by_id[id]

    def _decide(self, why: int) -> int:
        library = self.library
        assert library is not None
        try:
            enabled = [self._task(id) for id in library.enabled()]
            current_id = library.current()
            current = self._by_id.get(current_id) if current_id else None
            strategy = self.strategy
            if strategy.looks_at_tasks:
                for task in enabled:
                    task.refresh()
                if current is not None:
                    current.refresh()
            strategy.points = library.points()
            chosen, count = strategy.decide(enabled, current, why)
            return chosen.id << 40 | min(count, _GRANT_MAX)
        except BaseException as error:
            self.failure = error
            return -1

    def _draw(self, n: int) -> int:
        try:
            return self.strategy.draw(n)
        except BaseException as error:
            self.failure = error
            return -1


_GRANT_MAX: Final = (1 << 40) - 1


Machine = tuple[object, ...]


def machine_of(scenario: Scenario) -> Machine:
    """All of a scenario that the machine which boots depends on: neither the workload nor how long a run may be."""
    return (
        scenario.cpus,
        scenario.possible,
        scenario.offline,
        scenario.block_bits,
        scenario.max_alloc,
        scenario.window_blocks,
        scenario.lazy_max,
        scenario.full_flush_ceiling_pages,
        scenario.debug_pagealloc,
    )


def backend_for(version: TreeVersion, scenario: Scenario, runtime: TreeRuntime) -> TreeBackend:
    """The backend of that machine, booted if it is the first of its kind on `runtime`, which is one version's."""
    machine = machine_of(scenario)
    backend = runtime.backends.get(machine)
    if backend is None:
        backend = runtime.backends[machine] = TreeBackend(version, scenario, runtime)
    backend.use(scenario)
    return backend


@dataclass(frozen=True, slots=True)
class Many:
    """What a series of runs came to."""

    runs: int
    flags: int
    """Of the last of them; those before it have none."""
    reason: str
    """Why the last one ended (runtime's reasons)."""
    points: int
    """Of those before the last."""
    operations: int
    """Of those before the last."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A task of a run that was given up."""

    task: int
    cpu: int
    place: str
    """Function and line, as a journal has them."""


_STRATEGY: Final = struct.Struct("=QQ").pack


class TreeBackend:
    """Runs programs on a tree. `reset` loads one; `run` runs it to its end and cleans up; `journal` decodes."""

    is_screened = True
    """An oracle in C looks at each run (`flags`)."""

    def __init__(self, version: TreeVersion, scenario: Scenario, runtime: TreeRuntime) -> None:
        self.version = version
        self.scenario = scenario
        self.runtime = runtime
        built, self.page_shift, bias = version.built_for(scenario)
        self.library = Library(built.library)
        self.decoder = Decoder(self.library, layout_of(built.library), self.page_shift)
        self.window = (WINDOW_PAGE, WINDOW_PAGE + scenario.window_blocks * scenario.block_bits)
        self.auditor = Auditor(self.decoder, scenario.block_bits, self.window, bias)
        self.library.boot(_config(scenario, self.window, bias, version.points_all))
        self.screen = Screen(self.auditor, scenario, self.window, (DIRECT_MAP_PAGE, WINDOW_PAGE))
        self.reason = ""
        self._encoded: dict[int, tuple[Program, Loadable]] = {}
        """By id() of the program, which is kept so that it stays its own: for a few programs that are run often."""
        self._tally = TallyView()

    def use(self, scenario: Scenario) -> None:
        """Run under a scenario of the same machine (`machine_of`) from now on."""
        self.scenario = scenario
        self.library.set_steps_max(scenario.steps_max)
        self.runtime.attach(self.library)

    def reset(self, program: Program) -> None:
        """Load a program on a machine as it was after boot."""
        self.library.load(self._loadable(program))
        self.runtime.begin()

    def _loadable(self, program: Program) -> Loadable:
        kept = self._encoded.get(id(program))
        if kept is None or kept[0] is not program:
            if len(self._encoded) >= ENCODED_MAX:
                self._encoded.clear()
            kept = self._encoded[id(program)] = (program, self._encode(program))
        return kept[1]

    def job(self, program: Program, plan: Plan, seed: int) -> bytes:
        """A run, for `run_many`; of use until ENCODED_MAX other programs were loaded."""
        return self._loadable(program).job + _STRATEGY(self.library.planned(plan), seed)

    def run_many(self, jobs: Sequence[bytes]) -> Many:
        """Run one after the other and screen each, up to the first that is flagged: the last run is as `reset` and
        `run` would have left it.
        """
        tally = self._tally
        count = self.library.run_many(b"".join(jobs), tally)
        self.runtime.begin()
        self.runtime.is_sealed = True
        self.reason = REASONS[tally.reason]
        self.screen.note(tally.flags)
        return Many(count, tally.flags, self.reason, tally.points, tally.operations)

    def _encode(self, program: Program) -> Loadable:
        library, scenario = self.library, self.scenario
        online = scenario.online_cpus()
        tasks: list[tuple[int, int, int, int]] = []
        words: list[tuple[int, int, int]] = []
        for number, task in enumerate(program.tasks, 1):
            cpu = task.cpu if task.cpu in online else online[number % len(online)]
            tasks.append((cpu, library.number(task.role), len(words), len(task.ops)))
            words += [(_OP_NUMBERS[op.kind], op.slot, op.pages) for op in task.ops]
        faults = [(library.number(fault.kind), fault.task, fault.nth) for fault in program.faults]
        moves = sorted((move.task, move.point, move.cpu) for move in program.migrations)
        return loadable(tasks, words, faults, [(task, cpu, point) for task, point, cpu in moves])

    def run(self) -> str:
        """Run it; why it stopped (runtime's reasons)."""
        self.reason = self.runtime.run()
        return self.reason

    def limit(self, points: int) -> None:
        """Give up the runs to come after so many points, whatever the scenario says."""
        self.library.set_steps_max(points)

    def standing(self) -> list[Standing]:
        """Of a run that was given up: the tasks that could go on, and where; the one that ran last comes first."""
        views = {view.id: view for view in self.library.tasks()}
        last = self.library.current()
        ids = sorted(self.library.enabled(), key=lambda id: (id != last, id))
        return [Standing(id, views[id].cpu, self.decoder.function(views[id].pc)) for id in ids]

    @property
    def flags(self) -> int:
        """What the oracle sees of the last run that the checks should look at; 0: nothing."""
        return self.screen.flags()

    @property
    def operations(self) -> int:
        """Program operations carried out in this run (skipped ones not counted)."""
        return self.library.operations()

    @property
    def starts(self) -> dict[int, list[tuple[int, int]]]:
        """Of each task, where its operations began so far."""
        return {task.id: self.library.starts(task.id) for task in self.runtime.tasks if task.id < CLEANUP_TASK}

    @property
    def unfinished(self) -> list[str]:
        """Of a run that was given up: each task that was not done, and where it stood."""
        told = []
        for view in self.library.tasks():
            if view.is_done or (view.is_daemon and view.is_parked and not view.is_started):
                continue
            waits = f", waiting for {self.library.text(view.blocked_class)}" if view.is_parked else ""
            at = where(self.decoder.function(view.pc)) or "no function"
            told.append(f"{self.library.text(view.name)} on CPU {view.cpu} in {at}{waits}")
        return told

    def journal(self, *, seed: int = 0, execution: int = 0) -> Journal:
        """The run's journal, decoded, with the audit at rest if it came to rest."""
        scenario = self.scenario
        self.decoder.begin(self.library.objects())
        raw = self.library.events()
        events = self.decoder.events(raw)
        views = self.library.tasks()
        if self.reason == DONE and not any(view.is_dead for view in views):
            events = _before_the_end(events, self._audit(events))
        return Journal(
            header={
                "version": self.version.NAME,
                "scenario": asdict(scenario),
                "block_bits": scenario.block_bits,
                "window": list(self.window),
                "possible": list(scenario.possible_cpus()),
                "online": list(scenario.online_cpus()),
                "direct_map": [DIRECT_MAP_PAGE, WINDOW_PAGE],
                "tasks": {str(view.id): [self.library.text(view.name), view.cpu] for view in views},
                "seed": seed,
                "execution": execution,
                CALLERS: self.decoder.layout.callers,
                **({STACKS: stacks} if (stacks := self.decoder.stacks(raw)) else {}),
            },
            events=events,
        )

    def _audit(self, events: Sequence[Event]) -> list[Event]:
        """The audit at rest; what page tables and the page allocator hold, the journal itself has told."""
        mapped: set[int] = set()
        holes: set[int] = set()
        owned: set[int] = set()
        for event in events:
            kind, page = event[0], event[4]
            if kind in (PTE_SET, PTE_CLEAR):
                if page >= WINDOW_PAGE:
                    (mapped.add if kind == PTE_SET else mapped.discard)(page)
                else:
                    (holes.discard if kind == PTE_SET else holes.add)(page)
            elif kind == FRAME_OWNER:
                (owned.add if event[6] else owned.discard)(page)
        return self.auditor.snapshot(mapped, len(owned), len(holes))


def _before_the_end(events: list[Event], audit: Sequence[Event]) -> list[Event]:
    """An audit belongs before the event that says that the run stopped."""
    if events and events[-1][0] == STOPPED:
        return [*events[:-1], *audit, events[-1]]
    return [*events, *audit]


def _config(scenario: Scenario, window: tuple[int, int], bias: int, points_all: bool) -> ConfigView:
    config = ConfigView()
    possible, online = scenario.possible_cpus(), scenario.online_cpus()
    for cpu in possible:
        config.possible[cpu] = 1
    for cpu in online:
        config.online[cpu] = 1
    config.nr_possible = len(possible)
    config.window_start, config.window_end = window
    config.lazy_bias = bias
    config.steps_max = scenario.steps_max
    config.full_flush_ceiling_pages = scenario.full_flush_ceiling_pages
    config.debug_pagealloc = int(scenario.debug_pagealloc)
    config.points_all = int(points_all)
    config.keeps_events = 1
    config.slots = 1 << 16
    return config


def _no_body() -> None:
    return None
