# SPDX-License-Identifier: GPL-2.0-only
"""Schedules of a kernel tree, saved, replayed in other processes and shrunk; and the stories of what they show."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stressvmap.errors import ConfigError
from stressvmap.journal.place import ALLOC, FREE, stack
from stressvmap.report.columns import WIDTH, columns
from stressvmap.runtime.runtime import STEPS_MAX
from stressvmap.scenario import Scenario
from stressvmap.sched.portfolio import make_strategy
from stressvmap.sched.random import RandomStrategy
from stressvmap.stress import replay_study, subject
from stressvmap.stress.execution import Execution, Executor
from stressvmap.stress.failures import small
from stressvmap.stress.judge import judge
from stressvmap.stress.replay import RECURS, replay, saved_from
from stressvmap.stress.schedule_file import SavedSchedule, write_schedule
from stressvmap.stress.shrink import Shrinker
from stressvmap.stress.workloads import draw
from stressvmap.tree.screen import BIT_OF_CHECK
from stressvmap.tree.sources import PREFIX
from tests.tree.kernel_sources import archive
from tests.tree.trees import needs_compiler, needs_patch

pytestmark = [pytest.mark.trees, pytest.mark.timeout(600), needs_compiler, needs_patch]

REVERTS = Path(__file__).parents[2] / "configs" / "patches" / "reverts"
FULL_BLOCK = "stale-after-unmap-aliases"
EXECUTIONS_MAX = 500


def found(version: str, check: str, scenario: Scenario, is_candidate: Callable[[int], bool]) -> SavedSchedule:
    """The first failure of that check, saved. `is_candidate`: whether to judge a run with these flags."""
    executor = Executor(subject.load(version), scenario)
    strategy = make_strategy("mixed", 1)
    executor.calibrate(strategy, [draw(scenario, 1, number) for number in range(strategy.calibration)])
    for number in range(EXECUTIONS_MAX):
        program = draw(scenario, 1, number)
        screened = executor.run_unseen(program, strategy, execution=number)
        if is_candidate(executor.backend.flags):
            done: Execution = executor.look(screened.reason, 1, number)
            for violation in judge(done.journal)[0].violations:
                if violation.check == check:
                    return saved_from(executor, program, done, violation, version=version, seed=1)
    raise AssertionError(f"{check} was not seen in {EXECUTIONS_MAX} executions")


@pytest.fixture
def full_block(monkeypatch: pytest.MonkeyPatch) -> SavedSchedule:
    """Row 36 on 6.1."""
    return found(f"{PREFIX}{archive('6.1', monkeypatch)}", FULL_BLOCK, small("fill-block"), lambda _: True)


def test_a_failure_recurs_to_the_byte_in_processes_of_their_own(full_block: SavedSchedule, tmp_path: Path) -> None:
    write_schedule(full_block, tmp_path / "0000.json")
    assert [replay_study.in_a_fresh_process(tmp_path, seed, [full_block]) for seed in (0, 7)] == [1, 1]


def test_a_second_library_in_a_process_gives_the_same_journal(full_block: SavedSchedule) -> None:
    """Its heap lies elsewhere than the first's."""
    executor = Executor(subject.load(full_block.version), replace(full_block.scenario, cpus=3))
    executor.change_scenario(full_block.scenario)
    assert replay(full_block, executor).is_same_journal


def test_going_back_to_a_machine_boots_none(full_block: SavedSchedule) -> None:
    executor = Executor(subject.load(full_block.version), full_block.scenario)
    first = executor.backend
    executor.change_scenario(replace(full_block.scenario, cpus=3))
    assert executor.backend is not first
    executor.change_scenario(replace(full_block.scenario, steps_max=100))
    assert executor.backend is first
    assert executor.run(full_block.program, RandomStrategy(0)).reason == STEPS_MAX


def test_a_tree_that_moved_is_the_same_and_one_that_is_gone_is_bad_input(
    full_block: SavedSchedule, tmp_path: Path
) -> None:
    moved = tmp_path / Path(full_block.version.removeprefix(PREFIX)).name
    shutil.copyfile(full_block.version.removeprefix(PREFIX), moved)
    told = replay(replace(full_block, version=f"{PREFIX}{moved}"))
    assert (told.exit_status, told.is_same_source, told.is_same_journal) == (RECURS, True, True)
    moved.unlink()
    with pytest.raises(ConfigError, match="there is no such folder or file"):
        replay(replace(full_block, version=f"{PREFIX}{tmp_path / 'gone'}"))


def test_the_full_block_shrinks_to_what_it_does_on_the_model(full_block: SavedSchedule) -> None:
    result = Shrinker(full_block).run()
    assert result.best is not None
    assert result.best.saved.fingerprint == full_block.fingerprint
    assert result.best.size.tasks <= 2
    assert result.best.size.operations <= 5


def test_a_use_after_free_is_told_with_the_objects_own_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    version = f"{PREFIX}{archive('6.1', monkeypatch)}?patch={REVERTS / 'row-28-on-6.1.patch'}"
    saved = found(
        version, "use-after-free", small("fill-block"), lambda flags: bool(flags & BIT_OF_CHECK["use-after-free"])
    )
    told = replay(saved)
    journal, violation = told.journal, told.violation
    assert journal is not None
    assert violation is not None
    dead = journal.events[violation.at][4]
    assert [place.function for place in stack(journal, dead, ALLOC)][-1] == "vm_map_ram"
    assert stack(journal, dead, FREE)[0].file == "mm/vmalloc.c"
    assert "allocated in alloc_vmap_area mm/vmalloc.c:" in violation.message
    lines = columns(journal, violation)
    assert max(map(len, lines)) <= WIDTH
    (touched,) = (line for line in lines if "reads vb->va->va_start" in line)
    assert touched.split()[0].isdigit()
