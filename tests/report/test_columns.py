# SPDX-License-Identifier: GPL-2.0-only
"""Stories in columns. tests/report/stories/ holds what a reader gets, one file a case; `python -m
tests.report.test_columns` writes them anew, to be read before they are committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from stressvmap.checks.base import Mechanism, Violation
from stressvmap.checks.order import Order
from stressvmap.journal import events as ev
from stressvmap.journal.journal import Journal
from stressvmap.journal.store import write
from stressvmap.report.columns import LINES_MAX, WIDTH, columns, columns_in, columns_of, markdown
from stressvmap.report.selection import Selection
from stressvmap.scenario import Scenario
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.replay import Run
from stressvmap.stress.execution import Executor
from stressvmap.stress.judge import judge
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.planted import WalksDyingBlocks
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from tests.checks.recording import BLOCK, Recording
from tests.model.mutants import AccountsBeforeClear, LocksListFirst, ReusesDirtySpace, SleepsInReader
from tests.model.world import (
    ALIASES,
    PAUSE,
    Outcome,
    alone,
    map_,
    nth,
    on,
    scripted,
    unmap,
    until_in,
    until_kind,
    until_pause,
)

STORIES = Path(__file__).parent / "stories"
Told = tuple[Journal, Violation]

FILL = (map_(0, 4), map_(1, 4))


def first(outcome: Outcome, check: str) -> Told:
    return outcome.journal, outcome.of(check)[0]


def full_block() -> Told:
    """Row 36, fc1e0d980037: the walk of v6.4 goes by the free lists."""
    outcome = scripted(V6_4, on(0, *FILL, unmap(0)), on(1, ALIASES), script=[Run(1), Run(2)])
    return first(outcome, "stale-after-unmap-aliases")


def full_block_on_three_cpus() -> Told:
    outcome = scripted(V6_4, on(0, *FILL), on(1, unmap(0)), on(2, ALIASES), script=[Run(1), Run(2), Run(3)], cpus=3)
    return first(outcome, "stale-after-unmap-aliases")


def dying_block() -> Told:
    """docs/findings/dying-block.md."""
    outcome = scripted(
        V6_5, on(0, *FILL, unmap(0), unmap(1)), on(1, ALIASES), script=[Run(1, until_kind(ev.XA_ERASE)), Run(2)]
    )
    return first(outcome, "stale-after-unmap-aliases")


def walk_of_5_12() -> Told:
    """Row 28, ad216c0316ad: RCU keeps the block under a walker's feet, not its area."""
    outcome = scripted(
        WalksDyingBlocks,
        on(0, map_(0, 4), unmap(0), PAUSE, ALIASES),
        on(1, ALIASES),
        script=[Run(1, until_pause), Run(1, until_in("_vm_unmap_aliases", ev.LOCK, "vb->lock")), Run(2)],
    )
    return first(outcome, "use-after-free")


@cache
def churned(number: int) -> Journal:
    """An execution of `stressvmap stress --version v6.5 --workload churn --seed 1`."""
    scenario = Scenario(workload="churn")
    executor = Executor(V6_5, scenario)
    done = executor.run(draw(scenario, 1, number), RandomStrategy(1), execution=number)
    executor.close()
    return done.journal


def wrong_queue() -> Told:
    """Row 42, 8c61291fd850: one CPU deletes under another list's lock while the owner adds."""
    journal = churned(55)
    return journal, next(found for found in judge(journal)[0].violations if found.check == "list-corruption")


def wrong_queue_seen_by_debug_list() -> Told:
    journal = churned(358)
    return journal, next(found for found in judge(journal)[0].violations if found.check == "list-corruption")


def deadlock() -> Told:
    outcome = scripted(
        LocksListFirst,
        on(0, map_(0, 4), unmap(0), PAUSE, map_(1, 4)),
        on(1, ALIASES),
        script=[
            Run(1, until_pause),
            Run(2, until_in("purge_fragmented_blocks", ev.LOCK, "vb->lock")),
            Run(1, until_in("vb_alloc", ev.LOCK, "vbq->lock")),
            Run(2),
        ],
    )
    return first(outcome, "deadlock")


def unlocked_range() -> Told:
    return first(alone(V6_4, map_(0, 4), map_(1, 2), unmap(0), ALIASES), "range-computed-unlocked")


def data_race() -> Told:
    """Any two steps of two tasks: here vb_free's store of `dirty` and the purge's lockless test of v6.4 (row 40)."""
    outcome = scripted(
        V6_4,
        on(0, map_(0, 4), unmap(0)),
        on(1, ALIASES),
        script=[
            Run(1, nth(2, until_in("vb_free", ev.LOCK, "vb->lock"))),
            Run(2, until_in("purge_fragmented_blocks", ev.READ, "dirty")),
            Run(1, until_in("vb_free", ev.UNLOCK, "vb->lock")),
            Run(2),
        ],
    )
    events = outcome.journal.events
    reads = next(n for n, e in enumerate(events) if e[0] == ev.READ and e[5] == "dirty" and e[3].startswith("purge"))
    writes = next(n for n, e in enumerate(events) if e[0] == ev.WRITE and e[5] == "dirty" and e[3] == "vb_free")
    steps = tuple(sorted((reads, writes)))
    mechanism = Mechanism("data-race", ("vm_unmap_aliases", "vm_unmap_ram"), "vmap_block", "dirty")
    message = "vb->dirty is read and written by two CPUs that nothing orders, and the read is plain"
    return outcome.journal, Violation("data-race", mechanism, message, steps[-1], steps)


def collected_before_the_clear() -> Told:
    """A planted bug: the call that collected the range, and flushed it too early, is part of the story."""
    outcome = scripted(
        AccountsBeforeClear,
        on(0, map_(0, 4), map_(1, 2), unmap(0)),
        on(1, ALIASES, PAUSE, ALIASES),
        script=[Run(1, until_in("vb_free", ev.PTE_CLEAR)), Run(2, until_pause), Run(1), Run(2)],
    )
    return first(outcome, "stale-after-unmap-aliases")


CASES: dict[str, Callable[[], Told]] = {
    "row-36-full-block": full_block,
    "row-36-on-three-cpus": full_block_on_three_cpus,
    "dying-block": dying_block,
    "row-28-walk-of-5.12": walk_of_5_12,
    "row-42-wrong-queue": wrong_queue,
    "row-42-seen-by-debug-list": wrong_queue_seen_by_debug_list,
    "deadlock": deadlock,
    "range-computed-unlocked": unlocked_range,
    "data-race": data_race,
    "collected-before-the-clear": collected_before_the_clear,
}


@pytest.mark.parametrize("case", CASES)
def test_a_story_reads_as_it_was_approved(case: str) -> None:
    journal, violation = CASES[case]()
    assert "\n".join(columns(journal, violation)) + "\n" == (STORIES / f"{case}.txt").read_text(encoding="utf-8")


def test_the_documentation_quotes_a_story_as_it_is() -> None:
    story = (STORIES / "row-42-wrong-queue.txt").read_text(encoding="utf-8")
    documented = Path(__file__).parents[2] / "docs" / "stories.md"
    assert f"```\n{story}```" in documented.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_up_to_three_cpus_fit_into_a_commit_message(case: str) -> None:
    lines = columns(*CASES[case]())
    assert max(map(len, lines)) <= WIDTH
    assert all(line == line.rstrip() and line.isascii() for line in lines)
    assert len(lines) <= LINES_MAX + 8, "the legend and the closing sentence come on top"


def test_a_journal_from_a_file_tells_the_same_story(tmp_path: Path) -> None:
    journal, violation = dying_block()
    write(journal, tmp_path / "one.svj")
    assert columns_in(tmp_path / "one.svj", violation.fingerprint) == columns(journal, violation)
    assert columns_in(tmp_path / "one.svj", "0" * 12) == [], "it tells nothing of what is not there"


def test_a_limit_that_the_scenario_set_is_kept_in_mind() -> None:
    outcome = alone(V6_4, map_(0, 4), map_(1, 2), unmap(0), ALIASES, limits={"lock-hold": 1})
    limits = {"lock-hold": 1.0}
    found = next(v for v in judge(outcome.journal, limits=limits)[0].violations if v.check == "lock-hold")
    lines = columns_of(outcome.journal, found.fingerprint)
    assert "  mutex_unlock(&vmap_purge_lock)" in lines


def test_markdown_fences_it() -> None:
    lines = columns(*full_block())
    assert markdown(lines) == ["```", *lines, "```"]


def test_the_leftmost_cpu_is_the_first_to_act() -> None:
    header = next(line for line in columns(*wrong_queue()) if line.startswith("CPU"))
    assert header.split() == ["CPU", "3", "CPU", "0"]


def test_more_than_three_cpus_make_a_wider_table() -> None:
    outcome = scripted(
        V6_4,
        on(0, *FILL),
        on(1, unmap(0)),
        on(2, unmap(1)),
        on(3, ALIASES),
        script=[Run(1), Run(2), Run(3, until_kind(ev.XA_ERASE)), Run(4)],
        cpus=4,
    )
    lines = columns(*first(outcome, "stale-after-unmap-aliases"))
    header = next(line for line in lines if line.startswith("CPU"))
    assert header.split() == ["CPU", "0", "CPU", "1", "CPU", "2", "CPU", "3"]
    starts = [header.index(f"CPU {cpu}") for cpu in range(4)]
    rows = lines[lines.index(header) + 1 :]
    assert any(row.startswith(" " * starts[3] + "vm_unmap_aliases()") for row in rows)


def test_unmappings_that_only_repeat_one_another_take_one_line() -> None:
    pieces = [map_(slot, 1) for slot in range(8)]
    outcome = scripted(
        V6_4, on(0, *pieces, *(unmap(slot) for slot in range(6))), on(1, ALIASES), script=[Run(1), Run(2)]
    )
    lines = columns(*first(outcome, "stale-after-unmap-aliases"))
    assert sum("clear PTEs" in line for line in lines) == 1
    assert "vm_unmap_ram(C), vm_unmap_ram(D)," in lines
    assert "  vm_unmap_ram(E): likewise" in lines


def test_two_tasks_of_one_cpu_have_a_column_each() -> None:
    outcome = scripted(V6_4, on(0, *FILL, unmap(0)), on(0, ALIASES), script=[Run(1), Run(2)])
    lines = columns(*first(outcome, "stale-after-unmap-aliases"))
    assert any("CPU 0 (worker/1)" in line and "CPU 0 (worker/2)" in line for line in lines)


def test_what_is_seen_at_rest_only_is_told_in_the_words_of_the_check() -> None:
    j = Recording()
    j.audit(lazy_nr=3)
    found = j.violation("accounting")
    assert columns(j.journal(), found)[0] == found.message.splitlines()[0]


def test_a_recording_without_operations_tells_what_it_has() -> None:
    j = Recording(interval=True)
    j.map(1, BLOCK)
    j.unmap(1, BLOCK)
    j.aliases(2)
    found = j.violation("stale-after-unmap-aliases")
    lines = columns(j.journal(), found)
    assert "vm_unmap_ram(A)" in lines
    assert any("vm_unmap_aliases()" in line for line in lines)


@pytest.mark.parametrize("version", [V6_4, ReusesDirtySpace, SleepsInReader, WalksDyingBlocks])
def test_every_violation_of_a_random_run_has_a_story_that_fits(version: type[V6_4]) -> None:
    for journal, violation in violations_of(version, 12):
        lines = columns(journal, violation)
        assert 3 <= len(lines) <= LINES_MAX + 12, violation.message
        tasks = next((line.count("CPU ") for line in lines if line.startswith("CPU ")), 0)
        assert tasks > 3 or max(map(len, lines)) <= WIDTH


def violations_of(version: type[V6_4], executions: int) -> Iterator[Told]:
    """One of each fingerprint that a random run shows."""
    scenario = Scenario(cpus=2, operations=8, vmalloc_rate=0.1, reset_rate=0.3, large_rate=0.2)
    executor = Executor(version, scenario)
    told: set[str] = set()
    for number in range(executions):
        journal = executor.run(draw(scenario, 1, number), RandomStrategy(1), execution=number).journal
        for violation in judge(journal)[0].violations:
            if violation.fingerprint not in told:
                told.add(violation.fingerprint)
                yield journal, violation
    executor.close()
    assert told


@pytest.mark.parametrize("version", [V6_4, WalksDyingBlocks])
def test_what_is_told_is_what_the_violation_depends_on(version: type[V6_4]) -> None:
    """But for the release of a lock, and for what came after its last step: too late, or its consequence."""
    for journal, violation in [*violations_of(version, 8), wrong_queue_seen_by_debug_list(), dying_block()]:
        if ev.stream_of(journal.events[violation.at][0]) == ev.AUDIT:
            continue  # depends on all there was
        selection = Selection(journal, violation)
        order = Order(journal.events[: selection.end + 1])
        past = set(selection.seeds).union(*(order.past_of(seed) for seed in selection.seeds))
        for step in selection.ordered():
            is_release = journal.events[step.number][0] == ev.UNLOCK
            assert step.number in past or is_release or step.number > selection.seeds[-1], step.text


def test_a_cut_journal_tells_as_far_as_it_goes() -> None:
    journal, violation = dying_block()
    cut = replace(journal, events=journal.events[: violation.at - 5], complete=False)
    assert columns(cut, violation)[-1].startswith("CPUs 0, 1 may still translate")


def write_stories() -> None:
    for case, told in CASES.items():
        (STORIES / f"{case}.txt").write_text("\n".join(columns(*told())) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_stories()
