# SPDX-License-Identifier: GPL-2.0-only
"""Source-DPOR against plain enumeration, program by program: `python -m tests.sched.explore_family [PROGRAMS]`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stressvmap.kernel.kernel import INTERRUPT_TASKS, KWORKER_TASKS, RCU_TASK
from stressvmap.sched.bounded import BoundedSearch
from stressvmap.sched.dpor import SourceDpor
from stressvmap.sched.exploring import CUT, ExploringRuntime
from stressvmap.sched.search import Search
from stressvmap.stress.accesses import JournalAccesses
from tests.sched.small_programs import Enumerated, Interpreter, Outcome, SmallProgram, enumerate_all, family

BLOCK_BITS = 8
MakeSearch = Callable[[Sequence[int]], Search]


@dataclass
class Explored:
    """What a search came to."""

    complete: int = 0
    cut: int = 0
    outcomes: set[Outcome] = field(default_factory=set)
    classes: set[int] = field(default_factory=set)
    is_whole: bool = False


def task_ids(program: SmallProgram) -> list[int]:
    cpus = max(cpu for cpu, _ in program.tasks) + 1
    irqs = [INTERRUPT_TASKS + cpu for cpu in range(cpus)]
    return [*range(1, len(program.tasks) + 1), *irqs, KWORKER_TASKS, RCU_TASK]


def explore(
    program: SmallProgram,
    make: MakeSearch,
    executions_max: int = 1 << 30,
    make_runtime: Callable[[], ExploringRuntime] | None = None,
) -> Explored:
    """Search `program` to the end, or for `executions_max` executions."""
    runtime = make_runtime() if make_runtime is not None else new_runtime()
    ids = task_ids(program)
    search = make(ids)
    result = Explored()
    while result.complete + result.cut < executions_max:
        interpreter = Interpreter(program, runtime)
        runtime.watch(search, interpreter.world.events)
        reason = runtime.run()
        if runtime.is_news:
            search, result = make(ids), Explored()
            continue
        if reason == CUT:
            result.cut += 1
        else:
            result.complete += 1
            result.outcomes.add(interpreter.outcome(reason))
            result.classes.add(search.order.class_hash())
        if not search.advance():
            result.is_whole = True
            break
    runtime.close()
    return result


def new_runtime() -> ExploringRuntime:
    accesses = JournalAccesses(BLOCK_BITS, set())
    runtime = ExploringRuntime(accesses)
    accesses.contended = runtime.contended
    return runtime


def everything(tasks: Sequence[int]) -> Search:
    """All interleavings: a bound that no execution reaches."""
    return BoundedSearch(tasks, 1 << 20)


def disagreement(enumerated: Enumerated, reduced: Explored, full: Explored | None) -> str:
    """What is wrong with a reduced search, in words; empty if nothing is."""
    wrong = []
    if {o.final for o in enumerated.outcomes} != {o.final for o in reduced.outcomes}:
        wrong.append("final states differ")
    if {o.violations for o in enumerated.outcomes} != {o.violations for o in reduced.outcomes}:
        wrong.append("violations differ")
    if {o.order for o in enumerated.outcomes} != {o.order for o in reduced.outcomes}:
        wrong.append("journals differ in more than the order of independent steps")
    if len(reduced.classes) != reduced.complete:
        wrong.append(f"{reduced.complete} complete executions of {len(reduced.classes)} traces")
    if full is not None and full.is_whole and full.classes != reduced.classes:
        wrong.append(f"{len(reduced.classes)} traces of {len(full.classes)}")
    return "; ".join(wrong)


def main(arguments: Sequence[str]) -> int:
    wanted = int(arguments[0]) if arguments else 500
    executions_max = int(arguments[1]) if len(arguments) > 1 else 20_000
    started = time.monotonic()
    checked = failed = skipped = 0
    sums = [0] * 6
    for number, program in enumerate(family(100 * wanted)):
        enumerated = enumerate_all(program, executions_max)
        if not enumerated.is_whole:
            skipped += 1
            continue
        reduced = explore(program, SourceDpor)
        full = explore(program, everything, 10 * executions_max)
        wrong = disagreement(enumerated, reduced, full)
        if wrong:
            failed += 1
            print(f"program {number}: {program}: {wrong}", flush=True)
        journals = len({outcome.order for outcome in enumerated.outcomes})
        deadlocks = any(outcome.reason == "deadlock" for outcome in enumerated.outcomes)
        more = (enumerated.executions, reduced.complete, reduced.cut, len(full.classes), journals, int(deadlocks))
        sums = [one + other for one, other in zip(sums, more, strict=True)]
        checked += 1
        if checked == wanted:
            break
    print(f"{checked} programs ({skipped} passed over: more than {executions_max:,} interleavings), {failed} wrong")
    print(f"  {sums[0]:,} interleavings, by plain enumeration; {sums[5]} programs with a deadlock")
    print(f"  {sums[1]:,} complete executions and {sums[2]:,} cut ones, by source-DPOR with sleep sets")
    print(f"  {sums[3]:,} Mazurkiewicz traces; {sums[4]:,} journals that differ in more than independent order")
    print(f"  {time.monotonic() - started:.0f} s")
    return 1 if failed or checked < wanted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
