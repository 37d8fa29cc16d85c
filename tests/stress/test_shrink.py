# SPDX-License-Identifier: GPL-2.0-only
"""Shrinking keeps the violation, ends at a known minimum, and is the same each time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from stressvmap.errors import PatchError
from stressvmap.program import ALIASES, MAP, PAUSE, TOUCH, UNMAP, Fault, Migration, Program, ProgramOp, TaskProgram
from stressvmap.runtime.runtime import STEPS_MAX
from stressvmap.runtime.strategy import Schedule
from stressvmap.sched.follow import FollowStrategy
from stressvmap.stress.execution import Executor
from stressvmap.stress.judge import Judge
from stressvmap.stress.replay import RECURS, replay, saved_from
from stressvmap.stress.schedule_file import SavedSchedule, read_schedule, write_schedule
from stressvmap.stress.shrink import Shown, Shrinker, Shrunk
from stressvmap.vmalloc import versions
from tests.stress.runs import python, write_patch
from tests.stress.saved import DYING_BLOCK, FULL_BLOCK, SMALL, failure, run_once

OTHER_PROCESS = """
    import sys
    from pathlib import Path
    from stressvmap.stress.schedule_file import read_schedule
    from stressvmap.stress.shrink import Shrinker
    print(Shrinker(read_schedule(Path(sys.argv[1]))).run().best.saved.to_json())
"""


@cache
def shrunk(version: str = "v6.4", fingerprint: str = FULL_BLOCK, workload: str = "fill-block") -> Shrunk:
    return Shrinker(failure(version, fingerprint, workload)).run()


def best_of(result: Shrunk) -> Shown:
    assert result.best is not None
    return result.best


def sequential(*tasks: tuple[ProgramOp, ...], faults: tuple[Fault, ...] = ()) -> SavedSchedule:
    """A program saved as it runs on v6.4 without preemptions; it must show the full-block bug."""
    saved = run_once(Program(tuple(TaskProgram(0, ops) for ops in tasks), faults), fingerprint=FULL_BLOCK)
    assert saved is not None
    return saved


def test_the_full_block_is_shrunk_to_the_minimum_written_by_hand() -> None:
    best = best_of(shrunk())
    kinds = [[op.kind for op in task.ops] for task in best.saved.program.tasks]
    assert kinds == [[MAP, MAP, UNMAP, ALIASES]]
    assert (best.saved.scenario.cpus, best.saved.scenario.block_bits) == (1, 4)
    assert best.size.preemptions == 0


def test_the_dying_block_is_shrunk_to_one_preemption_in_the_last_unmap() -> None:
    best = best_of(shrunk("v6.5", DYING_BLOCK))
    kinds = [[op.kind for op in task.ops] for task in best.saved.program.tasks]
    assert sorted(kinds) == [[ALIASES], [MAP, MAP, UNMAP, UNMAP]]
    assert best.size.preemptions == 1
    leg = next(leg for leg in best.variant.legs if leg.is_preempted)
    assert (kinds[leg.task - 1][0], leg.op) == (MAP, 3)


@pytest.mark.parametrize(("version", "fingerprint"), [("v6.4", FULL_BLOCK), ("v6.5", DYING_BLOCK)])
def test_what_is_left_replays_to_the_same_violation_and_journal(version: str, fingerprint: str) -> None:
    told = replay(best_of(shrunk(version, fingerprint)).saved)
    assert told.exit_status == RECURS
    assert told.violation is not None
    assert told.violation.fingerprint == fingerprint
    assert told.is_same_journal


def test_a_second_shrink_gives_the_same_in_any_process(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    write_schedule(failure(), path)
    told = python(OTHER_PROCESS, path, hash_seed=7).communicate()[0].strip()
    assert told == best_of(shrunk()).saved.to_json().strip()


@pytest.mark.parametrize(("version", "fingerprint"), [("v6.4", FULL_BLOCK), ("v6.5", DYING_BLOCK)])
def test_what_was_shrunk_to_the_end_does_not_shrink_further(version: str, fingerprint: str) -> None:
    best = best_of(shrunk(version, fingerprint))
    again = Shrinker(best.saved).run()
    assert not again.is_smaller
    assert best_of(again).size == best.size


def test_each_improvement_is_smaller_and_is_told() -> None:
    told: list[Shown] = []
    result = Shrinker(failure(), on_better=told.append).run()
    assert [shown.size for shown in told] == sorted((shown.size for shown in told), reverse=True)
    assert len({(shown.size.program, shown.size.schedule) for shown in told}) == len(told) > 5
    assert told[-1] is result.best
    assert told[0].size == result.before


def test_one_larger_piece_takes_the_place_of_several() -> None:
    """Leaving out any operation of this program leaves the block with room, and so the bug out."""
    many = (*(ProgramOp(MAP, slot, 2) for slot in range(4)), ProgramOp(UNMAP, 0), ProgramOp(ALIASES))
    assert best_of(Shrinker(sequential(many)).run()).size.operations == 4


def test_a_fault_that_would_hit_the_next_operation_goes_with_its_own() -> None:
    """Without the first mapping the fault would fail the second; without the fault there would be one too many."""
    ops = (
        ProgramOp(MAP, 5, 1), ProgramOp(MAP, 0, 4), ProgramOp(MAP, 1, 4), ProgramOp(UNMAP, 0), ProgramOp(ALIASES),
    )  # fmt: skip
    best = best_of(Shrinker(sequential(ops, faults=(Fault("kmem_cache_alloc", 1, 0),))).run())
    assert (best.size.operations, best.saved.program.faults) == (4, ())


def test_what_two_tasks_do_one_can_do() -> None:
    first = (ProgramOp(MAP, 0, 4), ProgramOp(MAP, 1, 4), ProgramOp(UNMAP, 0))
    best = best_of(Shrinker(sequential(first, (ProgramOp(ALIASES),))).run())
    assert (best.size.tasks, best.size.operations) == (1, 4)


def test_what_plays_no_part_goes() -> None:
    """Faults, migrations, pauses, reads, a high slot."""
    ops = (
        ProgramOp(PAUSE, 0, 20), ProgramOp(MAP, 40, 4), ProgramOp(TOUCH, 40), ProgramOp(MAP, 9, 4),
        ProgramOp(UNMAP, 40), ProgramOp(ALIASES), ProgramOp(TOUCH, 9),
    )  # fmt: skip
    saved = sequential(ops, faults=(Fault("kmalloc", 1, 50),))
    saved.program = replace(saved.program, migrations=(Migration(1, 900, 1),))
    program = best_of(Shrinker(saved).run()).saved.program
    assert [(op.kind, op.slot) for op in program.tasks[0].ops] == [(MAP, 0), (MAP, 1), (UNMAP, 0), (ALIASES, 0)]
    assert (program.faults, program.migrations) == ((), ())


def test_a_violation_that_does_not_recur_is_not_invented() -> None:
    fewer = sequential((ProgramOp(MAP, 0, 4), ProgramOp(MAP, 1, 4), ProgramOp(UNMAP, 0), ProgramOp(ALIASES)))
    fewer.program = Program((TaskProgram(0, (ProgramOp(MAP, 0, 1),)),))
    result = Shrinker(fewer).run()
    assert (result.best, result.before) == (None, None)
    assert result.tries > 0


def test_it_never_turns_into_another_violation_of_the_same_program() -> None:
    """The program shows both; the other is easier to reach."""
    saved = failure("v6.4", DYING_BLOCK)
    kept = {shown.saved.fingerprint for shown in _all_better(saved)}
    assert kept == {DYING_BLOCK}


def _all_better(saved: SavedSchedule) -> list[Shown]:
    told: list[Shown] = []
    Shrinker(saved, tries=60, on_better=told.append).run()
    return told


def test_a_schedule_that_does_not_fit_any_more_is_searched_for_again() -> None:
    saved = replace(failure("v6.5", DYING_BLOCK), schedule=Schedule([(1, 10), (77, 3)]))
    saved.program = best_of(shrunk("v6.5", DYING_BLOCK)).saved.program
    saved.scenario = best_of(shrunk("v6.5", DYING_BLOCK)).saved.scenario
    assert best_of(Shrinker(saved).run()).size.preemptions == 1


def test_a_schedule_kept_for_nothing_is_shrunk_for_the_first_violation_there_is() -> None:
    saved = replace(failure(), check="", fingerprint="")
    assert best_of(Shrinker(saved).run()).saved.fingerprint == FULL_BLOCK


def test_budgets_end_it_with_the_best_so_far() -> None:
    result = Shrinker(failure(), tries=10).run()
    assert (result.tries, result.is_over_budget, result.is_stopped) == (10, True, False)
    assert replay(best_of(result).saved).exit_status == RECURS
    assert Shrinker(failure(), seconds=0.0).run().is_over_budget


def test_it_can_be_stopped_between_two_candidates() -> None:
    asked = iter(range(1000))
    result = Shrinker(failure(), stop=lambda: int(next(asked) >= 20)).run()
    assert (result.tries, result.is_stopped) == (20, True)
    assert result.is_smaller


def test_of_an_execution_that_was_given_up_candidates_may_be_given_up_too() -> None:
    scenario = replace(SMALL, steps_max=200)
    program = Program(
        (
            TaskProgram(0, (ProgramOp(MAP, 0, 4), ProgramOp(MAP, 1, 4), ProgramOp(UNMAP, 0), ProgramOp(ALIASES))),
            TaskProgram(1, (ProgramOp(PAUSE, 0, 10_000),)),
        )
    )
    executor = Executor(versions.load("v6.4"), scenario)
    done = executor.run(program, FollowStrategy())
    executor.close()
    violation = Judge().execution(done.journal).violations[0]
    assert done.reason == STEPS_MAX
    saved = saved_from(executor, program, done, violation, version="v6.4")
    best = best_of(Shrinker(saved).run())
    assert (best.size.tasks, best.size.operations) == (1, 4)
    assert best.saved.scenario.steps_max == 200


def test_a_candidate_on_which_a_patch_raises_does_not_show_the_violation(tmp_path: Path) -> None:
    body = "def vb_free(self, addr, size):\n    assert size > 3 << 12\n    super().vb_free(addr, size)\n"
    version = write_patch(tmp_path, body, "V6_4")
    saved = replace(
        sequential((ProgramOp(MAP, 0, 4), ProgramOp(MAP, 1, 4), ProgramOp(UNMAP, 0), ProgramOp(ALIASES))),
        version=version,
    )
    best = best_of(Shrinker(saved).run())
    assert {op.pages for op in best.saved.program.tasks[0].ops if op.kind == MAP} == {4}


def test_a_patch_that_raises_on_the_schedule_itself_is_named(tmp_path: Path) -> None:
    version = write_patch(tmp_path, "def vb_free(self, addr, size):\n    raise KeyError(addr)\n", "V6_4")
    with pytest.raises(PatchError, match=r"Patch\.vb_free raised KeyError"):
        Shrinker(replace(failure(), version=version)).run()


def test_a_shrunk_schedule_is_a_file_like_any_other(tmp_path: Path) -> None:
    best = best_of(shrunk())
    write_schedule(best.saved, tmp_path / "s.json")
    assert read_schedule(tmp_path / "s.json") == best.saved
