# SPDX-License-Identifier: GPL-2.0-only
"""What shrinking changes: a scenario, a program and the legs of a schedule, and the ways to make them smaller.

Pure functions from one variant to another; whether the other still shows anything is not their business. A leg that
ends in an operation that is dropped ends where the next one of that task begins, or at the task's end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from stressvmap.kernel.kernel import INTERRUPT_TASKS
from stressvmap.program import (
    MAP,
    MIGRATE,
    OFFLINE,
    ONLINE,
    PAUSE,
    VMALLOC,
    VMALLOC_RESET,
    WHOLE,
    Fault,
    Migration,
    Program,
    ProgramOp,
    TaskProgram,
)
from stressvmap.scenario import Scenario
from stressvmap.sched.follow import Leg

SIZED: Final = (MAP, VMALLOC, VMALLOC_RESET)
CPU_NAMING: Final = (MIGRATE, OFFLINE, ONLINE)
SLOTLESS: Final = (*WHOLE, PAUSE, *CPU_NAMING)
INTERRUPTS_END: Final = INTERRUPT_TASKS + 256

Op = tuple[int, int]
"""An operation by (its task's position in the program, its position in the task), both from 0."""
_Change = Callable[[ProgramOp, Op], ProgramOp]


@dataclass(frozen=True, slots=True)
class Variant:
    """Something that can be run."""

    scenario: Scenario
    program: Program
    legs: tuple[Leg, ...] = ()
    draws: tuple[int, ...] = ()

    def key(self) -> str:
        """Equal only for equal variants."""
        return repr((self.scenario, self.program, self.legs, self.draws))


def operations(program: Program) -> list[Op]:
    """All operations, task by task."""
    return [(t, k) for t, task in enumerate(program.tasks) for k in range(len(task.ops))]


def program_size(variant: Variant) -> tuple[int, ...]:
    """What it does and on what: tasks, operations, faults and migrations, CPUs, pages of a block, largest piece,
    pages mapped, points paused, slots.
    """
    scenario, program = variant.scenario, variant.program
    ops = [op for task in program.tasks for op in task.ops]
    return (
        len(program.tasks),
        len(ops),
        len(program.faults) + len(program.migrations),
        scenario.cpus,
        scenario.block_bits,
        scenario.max_alloc,
        sum(op.pages for op in ops if op.kind in SIZED),
        sum(op.pages for op in ops if op.kind == PAUSE),
        sum(op.slot for op in ops),
    )


# -- fewer operations, tasks, injections ------------------------------------------------------------------


def without(variant: Variant, dropped: Collection[Op]) -> Variant:
    """The variant without those operations; a task that has none left is dropped, and the others close up."""
    tasks: list[TaskProgram] = []
    new_ids: dict[int, int] = {}
    new_ops: dict[Op, int] = {}
    for t, task in enumerate(variant.program.tasks):
        kept = [k for k in range(len(task.ops)) if (t, k) not in dropped]
        if kept:
            tasks.append(replace(task, ops=tuple(task.ops[k] for k in kept)))
            new_ids[t + 1] = len(tasks)
            new_ops.update({(t, k): number for number, k in enumerate(kept)})
    return _renamed(variant, tasks, new_ids, new_ops)


def merged(variant: Variant, first: int, second: int, order: Sequence[Op]) -> Variant:
    """The operations of task `second` (position) done by task `first` too, in `order`."""
    ops = variant.program.tasks
    mine = [op for op in order if op[0] in (first, second)]
    together = replace(ops[first], ops=tuple(ops[t].ops[k] for t, k in mine))
    tasks = [together if t == first else task for t, task in enumerate(ops) if t != second]
    new_ids = {t + 1: t + 1 - (t > second) for t in range(len(ops)) if t != second}
    new_ids[second + 1] = new_ids[first + 1]
    new_ops = {op: op[1] for op in operations(variant.program)}
    new_ops.update({op: number for number, op in enumerate(mine)})
    return _renamed(variant, tasks, new_ids, new_ops)


def without_injections(variant: Variant, dropped: Collection[int]) -> Variant:
    """Without those of its faults and then migrations, counted from 0."""
    faults = variant.program.faults
    kept_faults = tuple(fault for number, fault in enumerate(faults) if number not in dropped)
    kept_moves = tuple(
        move for number, move in enumerate(variant.program.migrations, len(faults)) if number not in dropped
    )
    return replace(variant, program=replace(variant.program, faults=kept_faults, migrations=kept_moves))


def without_one_use(variant: Variant) -> Iterator[Variant]:
    """Without one mapping and what its task does to that slot before it fills it again: either alone changes what the
    other operations find.
    """
    for t, task in enumerate(variant.program.tasks):
        for k, op in enumerate(task.ops):
            if op.kind in SIZED:
                dropped = {(t, k)}
                for later in range(k + 1, len(task.ops)):
                    other = task.ops[later]
                    if other.kind not in SLOTLESS and other.slot == op.slot:
                        if other.kind in SIZED:
                            break
                        dropped.add((t, later))
                yield without(variant, dropped)


def trades(variant: Variant) -> Iterator[Variant]:
    """With one operation less (or one slot's), and something else changed so that the others may do without it: an
    injection goes with it, another piece is larger, or all are.
    """
    program = variant.program
    tasks, largest = program.tasks, variant.scenario.max_alloc
    injections = range(len(program.faults) + len(program.migrations))
    ops = operations(program)
    for t, k in ops:
        for number in injections:
            yield without_injections(without(variant, {(t, k)}), {number})
    growing = [(t, k) for t, k in ops if tasks[t].ops[k].kind == MAP and tasks[t].ops[k].pages < largest]
    all_larger = variant
    for at in growing:
        all_larger = with_pages(all_larger, at, largest)
    for t, k in ops:
        gone = tasks[t].ops[k]
        if gone.kind != MAP:
            continue
        same_slot = {
            (u, n) for u, n in ops if tasks[u].ops[n].slot == gone.slot and tasks[u].ops[n].kind not in SLOTLESS
        }
        for dropped in ({(t, k)}, same_slot):
            for at in growing:
                if at not in dropped:
                    together = min(largest, tasks[at[0]].ops[at[1]].pages + gone.pages)
                    for pages in sorted({together, largest}):
                        yield without(with_pages(variant, at, pages), dropped)
            if growing:
                yield without(all_larger, dropped)
                yield without(without_injections(all_larger, injections), dropped)


def with_a_task_moved(variant: Variant) -> Iterator[Variant]:
    """With a run of operations less, and a task on another CPU: which queue a block is found on depends on how many
    blocks there were before it, and on the CPUs of those who look.
    """
    tasks = variant.program.tasks
    for moved, task in enumerate(tasks):
        for cpu in variant.scenario.possible_cpus():
            if cpu == task.cpu:
                continue
            elsewhere = tuple(replace(t, cpu=cpu) if n == moved else t for n, t in enumerate(tasks))
            changed = replace(variant, program=replace(variant.program, tasks=elsewhere))
            for length in (8, 6, 4, 2):
                for t, other in enumerate(tasks):
                    for k in range(len(other.ops) - length + 1):
                        yield without(changed, {(t, n) for n in range(k, k + length)})


def _renamed(
    variant: Variant, tasks: Sequence[TaskProgram], new_ids: Mapping[int, int], new_ops: Mapping[Op, int]
) -> Variant:
    """The variant with other tasks: those that are left have new ids, their operations new numbers."""
    program = variant.program
    faults = tuple(Fault(f.kind, new_ids[f.task], f.nth) for f in program.faults if f.task in new_ids)
    moves = tuple(Migration(new_ids[m.task], m.point, m.cpu) for m in program.migrations if m.task in new_ids)
    legs = []
    for leg in variant.legs:
        if leg.task > len(program.tasks):
            legs.append(leg)
        elif leg.task in new_ids:
            legs.append(_moved(leg, new_ids[leg.task], new_ops, len(program.tasks[leg.task - 1].ops)))
    return replace(variant, program=Program(tuple(tasks), faults, moves), legs=tuple(legs))


def _moved(leg: Leg, task: int, new_ops: Mapping[Op, int], count: int) -> Leg:
    """The leg of a task that is called `task` now; `count` operations were its."""
    if leg.op < 0:
        return replace(leg, task=task)
    number = new_ops.get((leg.task - 1, leg.op))
    if number is not None:
        return Leg(task, number, leg.offset)
    later = (new_ops[leg.task - 1, k] for k in range(leg.op + 1, count) if (leg.task - 1, k) in new_ops)
    following = next(later, None)
    return Leg(task) if following is None else Leg(task, following, 1)


# -- smaller operations -----------------------------------------------------------------------------------


def with_pages(variant: Variant, at: Op, pages: int) -> Variant:
    """With another size of one operation."""
    return _each_op(variant, lambda op, where: replace(op, pages=pages) if where == at else op)


def with_packed_slots(variant: Variant) -> Variant:
    """With its slots numbered in the order of their appearance."""
    numbers: dict[int, int] = {}
    for task in variant.program.tasks:
        for op in task.ops:
            if op.kind not in SLOTLESS:
                numbers.setdefault(op.slot, len(numbers))
    return _each_op(variant, lambda op, where: replace(op, slot=numbers.get(op.slot, 0)))


def _each_op(variant: Variant, change: _Change) -> Variant:
    tasks = tuple(
        replace(task, ops=tuple(change(op, (t, k)) for k, op in enumerate(task.ops)))
        for t, task in enumerate(variant.program.tasks)
    )
    return replace(variant, program=replace(variant.program, tasks=tasks))


# -- a smaller machine ------------------------------------------------------------------------------------


def on_fewer_cpus(variant: Variant) -> Iterator[Variant]:
    """Without one of its CPUs, whose tasks go to one of the others."""
    scenario = variant.scenario
    possible = scenario.possible_cpus()
    for gone in reversed(possible):
        for target in possible:
            if target != gone:
                yield _without_cpu(variant, gone, target)


def _without_cpu(variant: Variant, gone: int, target: int) -> Variant:
    scenario, program = variant.scenario, variant.program
    left = [cpu for cpu in scenario.possible_cpus() if cpu != gone]
    is_sparse = bool(scenario.possible)
    names = {cpu: cpu if is_sparse else number for number, cpu in enumerate(left)}
    names[gone] = names[target]

    def name(cpu: int) -> int:
        return names.get(cpu, cpu)

    smaller = replace(
        scenario,
        cpus=len(left),
        possible=tuple(left) if is_sparse else (),
        offline=tuple(names[cpu] for cpu in scenario.offline if cpu != gone),
    )
    tasks = tuple(replace(task, cpu=name(task.cpu)) for task in program.tasks)
    moves = tuple(replace(move, cpu=name(move.cpu)) for move in program.migrations)
    legs = tuple(
        replace(leg, task=INTERRUPT_TASKS + name(leg.task - INTERRUPT_TASKS))
        if INTERRUPT_TASKS <= leg.task < INTERRUPTS_END
        else leg
        for leg in variant.legs
    )
    changed = Variant(smaller, replace(program, tasks=tasks, migrations=moves), legs, variant.draws)
    return _each_op(changed, lambda op, where: replace(op, pages=name(op.pages)) if op.kind in CPU_NAMING else op)


def with_smaller_blocks(variant: Variant) -> Iterator[Variant]:
    """With fewer pages to a block and smaller largest pieces, the smallest first; sizes kept, or made smaller
    likewise.
    """
    scenario = variant.scenario
    now = (scenario.block_bits, scenario.max_alloc)
    bits = 4
    while bits <= scenario.block_bits:
        largest = 1
        while 2 * largest <= bits and (bits, largest) < now:
            smaller = replace(variant, scenario=replace(scenario, block_bits=bits, max_alloc=largest))
            yield _scaled(smaller, scenario, bits, scenario.block_bits)
            yield _scaled(smaller, scenario, 1, 1)
            largest *= 2
        bits *= 2


def _scaled(variant: Variant, before: Scenario, numerator: int, denominator: int) -> Variant:
    """Sizes in proportion; what a block served is still served by one, what bypassed them still bypasses them."""
    largest = variant.scenario.max_alloc

    def change(op: ProgramOp, where: Op) -> ProgramOp:
        if op.kind not in SIZED:
            return op
        pages = max(1, -(-op.pages * numerator // denominator))
        pages = min(pages, largest) if op.pages <= before.max_alloc else max(pages, largest + 1)
        return replace(op, pages=pages)

    return _each_op(variant, change)
