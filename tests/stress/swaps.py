# SPDX-License-Identifier: GPL-2.0-only
"""Footprints put to the test on the model itself: two neighbouring steps that are called independent are swapped, and
nothing but their order may change. `python -m tests.stress.swaps [SWAPS]` for many.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from stressvmap.journal.events import Event
from stressvmap.program import Program
from stressvmap.scenario import WORKLOADS, Scenario
from stressvmap.sched.exploring import CUT, ExploringRuntime
from stressvmap.sched.footprint import Footprint, are_dependent
from stressvmap.sched.search import Node, Search, _Path
from stressvmap.stress.accesses import JournalAccesses
from stressvmap.stress.judge import Judge
from stressvmap.stress.small_program import without_pauses
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc import versions
from stressvmap.vmalloc.backend import CLEANUP_TASK, ModelBackend


class RandomSearch(Search):
    """One execution, at random; it stays with a task most of the time."""

    def __init__(self, tasks: Sequence[int], random: Random) -> None:
        super().__init__(tasks)
        self.random = random

    def choose(self, enabled: tuple[int, ...], current: int) -> Node | None:
        stays = current in enabled and self.random.random() < 0.7
        self.nodes.append(Node(enabled, current, current if stays else self.random.choice(enabled)))
        return self.nodes[-1]


class _Unfinished(_Path):
    """Goes on after its path, with the lowest task."""

    def choose(self, enabled: tuple[int, ...], current: int) -> Node | None:
        if len(self.nodes) < len(self.path):
            return super().choose(enabled, current)
        self.nodes.append(Node(enabled, current, enabled[0]))
        return self.nodes[-1]


@dataclass
class Swap:
    """Two neighbours, and whether their swap changed anything."""

    tasks: tuple[int, int]
    what: tuple[str, str]
    changed: str


class Swapper:
    """Runs programs of one scenario on one version at random, and swaps neighbours."""

    def __init__(self, version: str, scenario: Scenario) -> None:
        accesses = JournalAccesses(scenario.block_bits, set())
        self.runtime = ExploringRuntime(accesses)
        accesses.contended = self.runtime.contended
        self.backend = ModelBackend(versions.load(version), scenario, self.runtime)
        self.judge = Judge()

    def swaps(self, program: Program, seed: int, count: int, without: str = "") -> Iterator[Swap]:
        """Up to `count` swaps in one random execution of `program`: of independent neighbours, or, to see that this can
        fail, of those that would be independent `without` the keys of that name.
        """
        random = Random(f"swaps/{seed}")
        while True:
            self.backend.reset(program)
            tasks = [task.id for task in self.runtime.tasks if task.id != CLEANUP_TASK]
            search: Search = RandomSearch(tasks, random)
            before = self._run(program, search)
            if not self.runtime.is_news:
                break
        if before is None:
            return
        nodes = search.nodes
        places = [
            at
            for at, (one, other) in enumerate(pairwise(nodes))
            if one.chosen != other.chosen and _are_to_be_swapped(one.footprint, other.footprint, without)
        ]
        for at in sorted(random.sample(places, min(count, len(places)))):
            order = [(node.chosen, node.draws) for node in nodes]
            order[at], order[at + 1] = order[at + 1], order[at]
            one, other = nodes[at], nodes[at + 1]
            changed = "the second could not have been first" if other.chosen not in one.enabled else ""
            if not changed:
                after = self._run(program, _Unfinished(tasks, order))
                changed = _difference(before, after)
            yield Swap((one.chosen, other.chosen), (_shown(one.footprint), _shown(other.footprint)), changed)

    def _run(self, program: Program, search: Search) -> tuple[str, Counter[Event], frozenset[str]] | None:
        self.backend.reset(program)
        self.runtime.watch(search, self.backend.machine.events)
        reason = self.backend.run()
        if reason == CUT:
            return None
        journal = self.backend.journal()
        found = frozenset(violation.fingerprint for violation in self.judge.execution(journal).violations)
        return reason, Counter(journal.events), found


def _are_to_be_swapped(one: Footprint, other: Footprint, without: str) -> bool:
    if not without:
        return not are_dependent(one, other)
    less = ({key: use for key, use in uses.items() if key[0] != without} for uses in (one, other))  # type: ignore[index]
    return are_dependent(one, other) and not are_dependent(*less)


def _difference(
    before: tuple[str, Counter[Event], frozenset[str]], after: tuple[str, Counter[Event], frozenset[str]] | None
) -> str:
    if after is None:
        return "was cut"
    if before[0] != after[0]:
        return f"ended {after[0]}, not {before[0]}"
    if before[1] != after[1]:
        lost, came = before[1] - after[1], after[1] - before[1]
        return f"lost {sorted(lost, key=str)[:2]}, got {sorted(came, key=str)[:2]}"
    return "" if before[2] == after[2] else f"found {sorted(after[2])}, not {sorted(before[2])}"


def _shown(footprint: Footprint) -> str:
    return ", ".join(sorted(str(key) for key in footprint))


def scenarios() -> Iterator[tuple[Scenario, Program]]:
    """Drawn programs of all workloads: faults, migrations, CPUs that go offline, two tasks on a CPU, drains."""
    number = 0
    while True:
        for workload in WORKLOADS:
            number += 1
            scenario = Scenario(
                workload=workload,
                cpus=2 + number % 2,
                tasks_per_cpu=1 + number % 2,
                operations=5,
                window_blocks=6 if number % 3 else 24,
                lazy_max=8 if number % 2 else 24,
                large_rate=0.15,
                vmalloc_rate=0.15,
                reset_rate=0.5,
                aliases_rate=0.1,
                migration_rate=0.05 if number % 4 == 0 else 0.0,
                hotplug_rate=0.05 if number % 5 == 0 else 0.0,
                fault_rate=0.05,
                shrink_rate=0.1,
                debug_pagealloc=number % 7 == 0,
                full_flush_ceiling_pages=8 if number % 6 == 0 else 0,
                flushes=2,
                steps_max=20_000,
            )
            yield scenario, without_pauses(draw(scenario, 1, number))


def main(arguments: Sequence[str]) -> int:
    wanted = int(arguments[0]) if arguments else 3_000
    done = failed = 0
    names = list(versions.BUILT_IN)
    for number, (scenario, program) in enumerate(scenarios()):
        swapper = Swapper(names[number % len(names)], scenario)
        for swap in swapper.swaps(program, number, 30):
            done += 1
            if swap.changed:
                failed += 1
                print(f"{number} {scenario.workload}: tasks {swap.tasks}: {swap.changed}\n  {swap.what}", flush=True)
        swapper.runtime.close()
        if done >= wanted:
            break
    print(f"{done:,} swaps of independent neighbours in {number + 1} executions, {failed} changed something")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
