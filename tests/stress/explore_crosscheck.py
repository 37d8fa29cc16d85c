# SPDX-License-Identifier: GPL-2.0-only
"""Source-DPOR against the bounded search, on the model itself: `python -m tests.stress.explore_crosscheck`."""

from __future__ import annotations

import sys
import time

from stressvmap.scenario import Scenario
from stressvmap.sched.exploring import CUT
from stressvmap.stress.campaign import Campaign
from stressvmap.stress.explore import Explorer, ExploreSpec, Share
from stressvmap.stress.small_program import program_from_text

PROGRAMS = (
    ("map 0 4; unmap 0 | aliases", 2),
    ("map 0 4 | map 1 4", 1),
    ("map 0 4; unmap 0 | map 1 4; unmap 1", 1),
    ("map 0 4; map 1 4 | unmap 0 | aliases", 1),
    ("map 0 4; touch 0; unmap 0 | probe 0; aliases", 1),
    ("map 0 5; unmap 0 | aliases", 1),
    ("vmalloc 0 2; vfree 0 | aliases", 1),
    ("cpu0: map 0 4 | cpu0: aliases", 1),
)
"""Each with the number of preemptions up to which all schedules are run."""
VERSIONS = ("v6.4", "rfc-3of3", "v6.5")


def classes_of(spec: ExploreSpec) -> set[int]:
    """By source-DPOR, the hashes of the traces it runs."""
    explorer = Explorer(spec)
    found: set[int] = set()
    explorer.begin(Share())
    while True:
        search = explorer._search
        reason = explorer._run(search)
        if explorer.runtime.is_news:
            found.clear()
            explorer.begin(Share())
            continue
        if reason != CUT:
            found.add(search.order.class_hash())
        if not search.advance():
            explorer.close()
            return found


def main() -> int:
    failed = 0
    for ops, preemptions in PROGRAMS:
        for version in VERSIONS:
            started = time.monotonic()
            program = program_from_text(ops)
            cpus = 1 + max(task.cpu for task in program.tasks)
            machine = Scenario(cpus=max(2, cpus), window_blocks=4, migration_rate=0.0, fault_rate=0.0)
            reduced = ExploreSpec(version=version, scenario=machine, program=program)
            campaigns = [Campaign(reduced), Campaign(ExploreSpec(
                version=version, scenario=machine, program=program, preemptions=preemptions
            ))]  # fmt: skip
            for campaign in campaigns:
                campaign.run()
            one, other = (campaign.state.coverage for campaign in campaigns)
            classes = classes_of(reduced)
            missing = other.classes - classes
            unseen = set(other.findings) - set(one.findings)
            failed += bool(missing or unseen or len(classes) != one.complete)
            print(
                f"{version:9} {ops:45} {one.complete:5} traces, {len(one.findings)} findings; "
                f"{other.complete:6} schedules with at most {preemptions} preemptions: {len(other.classes):5} traces, "
                f"{len(other.findings)} findings; missing {len(missing)} traces, {len(unseen)} findings "
                f"({time.monotonic() - started:.0f} s)",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
