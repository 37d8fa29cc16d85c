# SPDX-License-Identifier: GPL-2.0-only
"""How often does a finding of threads become a schedule? `python -m stressvmap.stress.search_study`.

Runs several versions under free threads, keeps violations with their programs, and searches for each of them under the
controlled runtime. What threads find is not repeatable, so the table differs from run to run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from stressvmap.checks.base import Violation
from stressvmap.program import Program
from stressvmap.sched.threads import ThreadRuntime
from stressvmap.stress.failures import NO_DIRTY_MAX, NO_FLUSH, Source, small
from stressvmap.stress.judge import Judge
from stressvmap.stress.search import SCHEDULES_MAX, find_schedule
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc import versions
from stressvmap.vmalloc.backend import ModelBackend

SOURCES: Final = (
    Source("v6.4", small("fill-block")),
    Source("v6.4", small("mixed", 4, 10)),
    Source("rfc-3of3", small("fill-block")),
    Source("rfc-3of3", small("pinned", 3)),
    Source("v6.5", small("fill-block", 3, 10)),
    Source("v6.5", small("churn", 4, 20)),
    Source(NO_FLUSH, small("mixed", 3)),
    Source(NO_DIRTY_MAX, small("cross-cpu", 3)),
)


@dataclass(frozen=True, slots=True)
class ThreadFinding:
    """A violation that threads showed, with the program they ran."""

    source: Source
    program: Program
    violation: Violation


def thread_findings(source: Source, seed: int) -> Generator[list[ThreadFinding], None, None]:
    """Execution by execution, without end: what each violated, one of each fingerprint."""
    runtime = ThreadRuntime(seed, source.scenario.yield_rate)
    backend = ModelBackend(versions.load(source.version), source.scenario, runtime)
    judge = Judge(source.scenario.limits)
    execution = 0
    try:
        while True:
            program = draw(source.scenario, seed, execution)
            backend.reset(program)
            backend.run()
            found = judge.execution(backend.journal(seed=seed, execution=execution)).violations
            yield list({v.fingerprint: ThreadFinding(source, program, v) for v in reversed(found)}.values())
            execution += 1
    finally:
        runtime.close()


def collect(count: int, seconds: float, seed: int, chosen: Sequence[Source] = SOURCES) -> list[ThreadFinding]:
    """`count` findings, or as many as come in that time; of each execution, the fingerprint seen least so far."""
    deadline = time.monotonic() + seconds
    sources = [thread_findings(source, seed) for source in chosen]
    seen: Counter[str] = Counter()
    kept: list[ThreadFinding] = []
    number = 0
    while len(kept) < count and time.monotonic() < deadline:
        found = next(sources[number % len(sources)])
        number += 1
        wanted = [one for one in found if seen[one.violation.fingerprint] < max(1, count // 5)]
        if wanted:
            rarest = min(wanted, key=lambda one: seen[one.violation.fingerprint])
            seen[rarest.violation.fingerprint] += 1
            kept.append(rarest)
    for source in sources:
        source.close()
    return kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m stressvmap.stress.search_study", description=__doc__)
    parser.add_argument("--findings", type=int, default=100)
    parser.add_argument("--schedules", type=int, default=SCHEDULES_MAX, help="tried for each finding")
    parser.add_argument("--seconds", type=float, default=3600.0, help="for all of it; what is left then is not counted")
    parser.add_argument("--version", help="only this version's findings")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    deadline = time.monotonic() + given.seconds
    console = Console(soft_wrap=True, highlight=False, markup=False)
    sources = [source for source in SOURCES if given.version in (None, source.version)]
    if not sources:
        parser.error(f"--version {given.version}: is none of {', '.join(sorted({s.version for s in SOURCES}))}")
    findings = collect(given.findings, given.seconds / 2, given.seed, sources)
    tried: Counter[str] = Counter()
    at: defaultdict[str, list[int]] = defaultdict(list)
    for one in findings:
        if time.monotonic() > deadline:
            break
        violation = one.violation
        tried[violation.mechanism.text()] += 1
        saved = find_schedule(
            one.source.version,
            one.source.scenario,
            one.program,
            violation.fingerprint,
            check=violation.check,
            seed=given.seed,
            schedules_max=given.schedules,
        )
        if saved is not None:
            at[violation.mechanism.text()].append(saved.execution + 1)
    console.print("| mechanism | findings of threads | became a schedule | schedules tried, median | at most |")
    console.print("|---|---|---|---|---|")
    for mechanism, count in tried.most_common():
        found = at[mechanism]
        middle, most = (f"{statistics.median(found):g}", str(max(found))) if found else ("", "")
        console.print(f"| {mechanism.replace(' | ', ', ')} | {count} | {len(found)} | {middle} | {most} |")
    total = sum(len(found) for found in at.values())
    console.print(f"\n{total} of {sum(tried.values())} within {given.schedules:,} schedules each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
