# SPDX-License-Identifier: GPL-2.0-only
"""A Hypothesis state machine whose rules are the layer's API calls.

Hypothesis draws sequences of calls and machine events, one call at a time, each to its end (`concurrent` lets them
overlap). All checks look at the journal after each step, the structures are audited between the
calls, and at the end everything is unmapped, drained and audited at rest. What fails is shrunk to the few calls that
matter. A test of one's own patch is a file that pytest collects::

    from stressvmap.kernel.function import kernel_function
    from stressvmap.testing import machine
    from stressvmap.vmalloc.v6_5 import V6_5


    class PurgeFirst(V6_5):
        '''v6.5 which kills all fragmented blocks before it looks at the rest.'''

        @kernel_function
        def vm_unmap_aliases(self):
            with self.vmap_purge_lock:
                self.purge_fragmented_blocks_allcpus()
            super().vm_unmap_aliases()


    TestPurgeFirst = machine(PurgeFirst).TestCase

A version with declared breakage (`V6_4.known`) passes with `machine(V6_4, allow=known_fingerprints(V6_4))`. A failure
reads like this (v6.4, blocks of 8 pages)::

    state = V6_4Machine()
    mapping_0 = state.vm_map_ram(pages=4, task=1)
    mapping_1 = state.vm_map_ram(pages=4, task=1)
    state.vm_unmap_ram(mapping=mapping_1, task=1)
    state.vm_unmap_aliases(task=1)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule

from stressvmap import program as ops
from stressvmap.checks.audit import BETWEEN
from stressvmap.checks.base import Feeder, Violation
from stressvmap.checks.registry import all_checks
from stressvmap.checks.state import State
from stressvmap.errors import ConfigError
from stressvmap.journal.events import ALLOC_FAILED, SLOT_PUT, Event
from stressvmap.kernel.memory import DIRECT_MAP_PAGE
from stressvmap.kernel.slab import FAULT_KINDS
from stressvmap.program import Fault, Migration, Program, ProgramOp, TaskProgram
from stressvmap.runtime.runtime import DONE
from stressvmap.runtime.task import Task
from stressvmap.scenario import Scenario
from stressvmap.sched.sequential import SequentialRuntime
from stressvmap.testing.subject import SMALL, under_test
from stressvmap.testing.violation import failure_of
from stressvmap.vmalloc.backend import WINDOW_PAGE, ModelBackend
from stressvmap.vmalloc.base import Vmalloc

POINTS_MAX: Final = 120
"""A migration strikes within so many scheduling points of the next call; few calls take more."""
FAULT_NTH_MAX: Final = 3
UNMAPPED_MAX: Final = 8
"""So many of the mappings taken away last does `read_unmapped` read."""


class VmapStateMachine(RuleBasedStateMachine):
    """One simulated machine under random calls. `machine` makes subclasses of it that run; its methods are their rules.

    `task` is one of the tasks 1, 2, ...: task n begins on the n-th CPU online, and stays there until it migrates or the
    CPU goes offline.
    """

    VERSION: ClassVar[type[Vmalloc]]
    SCENARIO: ClassVar[Scenario]
    CHECKS: ClassVar[tuple[str, ...]] = ()
    """Names of the checks that look; empty: all."""
    ALLOW: ClassVar[frozenset[str]] = frozenset()
    """Fingerprints that do not fail the test."""

    def __init__(self) -> None:
        super().__init__()
        online = self.SCENARIO.online_cpus()
        self.runtime = SequentialRuntime()
        self.backend = ModelBackend(self.VERSION, self.SCENARIO, self.runtime)
        self.backend.reset(Program(tuple(TaskProgram(cpu, ()) for cpu in online)))
        self.machine = self.backend.machine
        self.tasks: dict[int, Task] = {task.id: task for task in self.runtime.tasks if task.id <= len(online)}
        self.mapped: list[int] = []
        """Slots that hold a mapping, oldest first."""
        self.unmapped: list[int] = []
        """Slots whose mapping was taken away last, at most UNMAPPED_MAX."""
        self._slots_used = 0
        self._fault: tuple[str, int] | None = None
        self._migration: tuple[int, int, int] | None = None
        self._is_over = False
        """A call was stopped, or something failed: nothing more can be learnt."""
        self._state = State()
        self._checks = all_checks(self._state, self.SCENARIO.limits, self.CHECKS)
        journal = self.backend.journal()
        journal.header["direct_map"] = [DIRECT_MAP_PAGE, WINDOW_PAGE]  # frames are still to be handed out
        journal.header["is_sequential"] = True  # no two of its tasks can ever meet
        able = [check for check in self._checks if not check.cannot_run_on(journal)]
        self._feeder = Feeder(journal, [self._state, *able])

    # -- calls --------------------------------------------------------------------------------------------

    def vm_map_ram(self, task: int, pages: int) -> Any:
        """Map `pages` page frames; above VMAP_MAX_ALLOC they bypass the blocks."""
        return self._fill(task, ops.MAP, pages)

    def vm_unmap_ram(self, task: int, mapping: int) -> None:
        """Unmap what vm_map_ram returned, whichever task mapped it."""
        self._empty(task, ops.UNMAP, mapping)

    def vm_unmap_aliases(self, task: int) -> None:
        """Have all debts paid."""
        self._call(task, ProgramOp(ops.ALIASES))

    def vmalloc(self, task: int, pages: int) -> Any:
        """Allocate and map `pages` pages."""
        return self._fill(task, ops.VMALLOC, pages)

    def vmalloc_reset_perms(self, task: int, pages: int) -> Any:
        """The same with VM_FLUSH_RESET_PERMS: its vfree flushes, the direct map included."""
        return self._fill(task, ops.VMALLOC_RESET, pages)

    def vfree(self, task: int, area: int) -> None:
        """Free what vmalloc returned, whichever task allocated it."""
        self._empty(task, ops.VFREE, area)

    # -- machine events -----------------------------------------------------------------------------------

    def read_mapped(self, task: int) -> None:
        """Read all that is mapped, so that the task's CPU caches the translations."""
        self._call(task, *(ProgramOp(ops.TOUCH, slot) for slot in self.mapped))

    def read_unmapped(self, task: int) -> None:
        """Read, as copy_from_kernel_nofault does, what was unmapped last: who still can, is the witness."""
        self._call(task, *(ProgramOp(ops.PROBE, slot) for slot in self.unmapped))

    def migrate(self, task: int, cpu: int, after_points: int) -> None:
        """Move a task to another CPU: at once, or so many points into its next call (if it is preemptible there)."""
        if after_points:
            self._migration = (task, cpu, after_points)
        else:
            self._call(task, ProgramOp(ops.MIGRATE, 0, cpu))

    def inject_fault(self, kind: str, nth: int) -> None:
        """The `nth` (from 0) request for memory of this kind fails, in the next call that makes so many."""
        self._fault = (kind, nth)

    def cpu_down(self, cpu: int) -> None:
        """Take a CPU offline, if another one is left; its tasks move away."""
        self._call(1, ProgramOp(ops.OFFLINE, 0, cpu))

    def cpu_up(self, cpu: int) -> None:
        """Bring a CPU online. Nobody moves there by itself."""
        self._call(1, ProgramOp(ops.ONLINE, 0, cpu))

    def teardown(self) -> None:
        """Unmap everything, drain, audit at rest: what is left over then is a leak."""
        if self._is_over:
            return
        reason = self.backend.run()
        self._feeder.feed()
        self._feeder.finish()
        self._judge(reason)

    # -- how ----------------------------------------------------------------------------------------------

    def _fill(self, task: int, kind: str, pages: int) -> Any:
        slot = self._slots_used
        self._slots_used += 1
        if not any(event[0] == SLOT_PUT for event in self._call(task, ProgramOp(kind, slot, pages))):
            return multiple()
        self.mapped.append(slot)
        return slot

    def _empty(self, task: int, kind: str, slot: int) -> None:
        if slot in self.mapped:
            self.mapped.remove(slot)
            self.unmapped = [*self.unmapped, slot][-UNMAPPED_MAX:]
            self._call(task, ProgramOp(kind, slot))

    def _call(self, task_id: int, *operations: ProgramOp) -> Sequence[Event]:
        """Perform `operations` as one task, feed what they journal, audit; returns their events."""
        if self._is_over:
            return ()
        task = self.tasks[task_id]
        begin = len(self.machine.events)
        self._is_over = True  # if the version raises; `_judge` decides otherwise
        self._arm(task)
        reason = self.runtime.call(task, lambda: self._perform(operations))
        events = self.machine.events[begin:]
        self._disarm(task, events)
        self._feeder.feed()
        self._judge(reason)
        if not self._is_over:
            self.backend.vmalloc.audit(BETWEEN)
            self._feeder.feed()
            self._judge(DONE)
        return events

    def _perform(self, operations: Sequence[ProgramOp]) -> None:
        for operation in operations:
            self.backend.perform(operation)

    def _arm(self, task: Task) -> None:
        if self._fault is not None:
            self.machine.inject([Fault(self._fault[0], task.id, self._fault[1])])
        if self._migration is not None and self._migration[0] == task.id:
            _, cpu, points = self._migration
            self.machine.plan_migrations([Migration(task.id, task.points + points, cpu)], [task])

    def _disarm(self, task: Task, events: Sequence[Event]) -> None:
        self.machine.inject(())
        self.machine.plan_migrations((), [task])
        if any(event[0] == ALLOC_FAILED for event in events):
            self._fault = None
        if self._migration is not None and self._migration[0] == task.id:
            self._migration = None

    def _judge(self, reason: str) -> None:
        """Raise the first violation that is not allowed; see whether the machine can go on."""
        self._is_over = True
        violations: list[Violation] = []
        for check in self._checks:
            violations += check.violations
            check.violations.clear()
        for violation in sorted(violations, key=lambda violation: violation.at):
            if violation.fingerprint not in self.ALLOW:
                raise failure_of(violation)
        if reason != DONE and not violations:
            raise AssertionError(f"the call did not end: {reason} after {self.runtime.points} scheduling points")
        has_lost_some = any(getattr(check, "suppressed", 0) for check in self._checks)
        self._is_over = reason != DONE or has_lost_some or any(task.is_dead for task in self.runtime.tasks)


def machine(
    version: str | type[Vmalloc],
    scenario: Scenario = SMALL,
    checks: Collection[str] = (),
    allow: Collection[str] = (),
) -> type[VmapStateMachine]:
    """A state machine that tests `version`: a name (`v6.5`, `path/to/patch.py:Class`), or a class.

    `machine(...).TestCase` is what pytest and unittest collect. `checks` names those that look (all if empty), `allow`
    lists fingerprints that do not fail it. Raises ConfigError for a version, scenario or check that makes no sense.
    """
    version_class = under_test(version, scenario, checks)
    if not isinstance(version_class, type):
        raise ConfigError(f"{version_class.NAME}: a kernel tree is no version class; the state machine calls the model")
    namespace: dict[str, Any] = {
        "__doc__": f"{version_class.NAME} under random calls.",
        "VERSION": version_class,
        "SCENARIO": scenario,
        "CHECKS": tuple(checks),
        "ALLOW": frozenset(allow),
        **_rules(scenario),
    }
    return type(f"{version_class.__name__}Machine", (VmapStateMachine,), namespace)


# -- rules ------------------------------------------------------------------------------------------------


def _rules(scenario: Scenario) -> dict[str, Callable[..., Any]]:
    """The methods of VmapStateMachine as rules, with the arguments that the scenario allows.

    Hypothesis switches a random set of rules off in each run (by method) and picks among the others evenly, so a method
    weighs as many times as it is listed: what fills and empties blocks must prevail, or machine events drown it. The
    simplest size, to which failures shrink, is the largest that a block serves: it fills one in the fewest calls. No
    rule has a precondition: each step can be left out without making the next one impossible, so shrinking gets far.
    """
    mapping: Bundle[int] = Bundle("mapping")
    area: Bundle[int] = Bundle("area")
    task = st.integers(1, len(scenario.online_cpus()))
    cpu = st.sampled_from(scenario.possible_cpus())
    largest = scenario.max_alloc
    powers = st.sampled_from([1 << order for order in reversed(range(largest.bit_length()))])
    sizes = st.sampled_from(range(largest, 0, -1))
    base = VmapStateMachine
    map_powers = rule(target=mapping, task=task, pages=powers)(base.vm_map_ram)
    map_any = rule(target=mapping, task=task, pages=sizes)(base.vm_map_ram)
    map_large = rule(target=mapping, task=task, pages=st.integers(largest + 1, 2 * largest))(base.vm_map_ram)
    unmap = rule(task=task, mapping=consumes(mapping))(base.vm_unmap_ram)
    aliases = rule(task=task)(base.vm_unmap_aliases)
    rules = [
        *[map_powers] * 4,
        *[map_any, map_large],
        *[unmap] * 5,
        *[aliases] * 4,
        rule(target=area, task=task, pages=sizes)(base.vmalloc),
        rule(target=area, task=task, pages=sizes)(base.vmalloc_reset_perms),
        rule(task=task, area=consumes(area))(base.vfree),
        rule(task=task)(base.read_mapped),
        rule(task=task)(base.read_unmapped),
        rule(kind=st.sampled_from(FAULT_KINDS), nth=st.integers(0, FAULT_NTH_MAX))(base.inject_fault),
    ]
    if len(scenario.possible_cpus()) > 1:
        points = st.just(0) | st.integers(0, POINTS_MAX)
        rules += [
            rule(task=task, cpu=cpu, after_points=points)(base.migrate),
            rule(cpu=cpu)(base.cpu_down),
            rule(cpu=cpu)(base.cpu_up),
        ]
    return {f"rule_{number}_{function.__name__}": function for number, function in enumerate(rules)}
