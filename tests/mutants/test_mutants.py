# SPDX-License-Identifier: GPL-2.0-only
"""A sample of what `python -m tests.mutants` does: each of these is noticed, and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stressvmap.vmalloc.versions import BUILT_IN
from tests.mutants.building import Mutant, mutants_of
from tests.mutants.results import append, equivalences, rates, read, result_of, table
from tests.mutants.trial import BEHAVIOUR, BROKEN, KILLED, SURVIVED, Outcome, Trial

V6_5 = BUILT_IN["v6.5"]
EXECUTIONS = 40
HULL = "if not is_purged and vb.dirty_max and vb.dirty != self.VMAP_BBMAP_BITS:"
KILLERS = {
    "vb_free:vb.dirty_min = min(vb.dirty_min, offset):min -> max": "flush-range-sanity",
    "vb_free:vb.dirty_max = max(vb.dirty_max, offset + (1 << order)):delete": "stale-after-unmap-aliases",
    "_vm_unmap_aliases:for vb in vbq.vmap_blocks.for_each()::all but the first": "stale-after-unmap-aliases",
    "_vm_unmap_aliases:with vb.lock::without the lock": "data-race",
    "_vm_unmap_aliases:with self.vmap_purge_lock::unlock before the last": "lock-discipline",
    "_vm_unmap_aliases:self.rcu.read_unlock():delete": "lock-discipline",
    'purge_fragmented_block:vb.WRITE_ONCE("dirty", self.VMAP_BBMAP_BITS):delete': "accounting",
    "purge_fragmented_block:list_add_tail(vb.purge, purge_list):arguments swapped": "kernel-bug",
    "free_purged_blocks:self.free_vmap_block(vb):delete": "leak",
    "vb_alloc:vaddr = self.new_vmap_block(order):delete": "overlapping-mapping",
    f"_vm_unmap_aliases:{HULL}:and without operand 2": "flush-range-sanity",
    "vb_alloc:break:delete": "accounting",
    "vb_alloc:self.rcu.read_lock():delete": "kernel-bug",
}
FELT = {
    "_vm_unmap_aliases:vb.dirty_min = self.VMAP_BBMAP_BITS:delete": "flush ranges",
    "purge_fragmented_blocks:continue:continue -> break": "results",
}
"""Behaviour: what a caller of the layer relies on that is not so any more."""


@pytest.fixture(scope="module")
def mutants() -> dict[str, Mutant]:
    return {mutant.id: mutant for mutant in mutants_of(V6_5)}


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    made = Trial(V6_5, EXECUTIONS)
    yield made
    made.close()


@pytest.mark.parametrize(("name", "check"), KILLERS.items())
def test_a_check_notices(mutants: dict[str, Mutant], trial: Trial, name: str, check: str) -> None:
    outcome = trial.run(mutants[f"v6.5:{name}"].build())
    assert (outcome.outcome, outcome.by) == (KILLED, check)
    assert outcome.why.startswith(check)


@pytest.mark.parametrize(("name", "relied_on"), FELT.items())
def test_a_caller_notices(mutants: dict[str, Mutant], trial: Trial, name: str, relied_on: str) -> None:
    outcome = trial.run(mutants[f"v6.5:{name}"].build())
    assert (outcome.outcome, outcome.by, outcome.why) == (KILLED, BEHAVIOUR, relied_on)


def test_nothing_is_noticed_of_the_unchanged_version(trial: Trial) -> None:
    assert trial.run(V6_5) == Outcome(SURVIVED, "", "", EXECUTIONS)


class Raises(V6_5):  # type: ignore[misc, valid-type]
    def vb_alloc(self, size: int) -> int:
        raise TypeError("not of the kernel's world")


def test_a_python_exception_is_no_kill(trial: Trial) -> None:
    outcome = trial.run(Raises)
    assert (outcome.outcome, outcome.by) == (BROKEN, "")
    assert "not of the kernel's world" in outcome.why


# -- results ----------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_stopped_and_a_result_of_other_code_is_none(
    tmp_path: Path, mutants: dict[str, Mutant]
) -> None:
    path = tmp_path / "results" / "mutants.jsonl"
    first, second, *_ = mutants.values()
    kept = result_of(first, Outcome(KILLED, "leak", "leak | ...", 7))
    append(path, kept)
    append(path, replace(result_of(second, Outcome(SURVIVED)), code="another"))
    with path.open("a") as file:
        file.write('{"mutant": "cut sho')
    assert read(path, mutants.values()) == {first.id: kept}


def test_the_table_counts_what_was_killed_of_what_is_no_equivalent(mutants: dict[str, Mutant]) -> None:
    four = list(mutants.values())[:4]
    outcomes = [Outcome(KILLED, "leak"), Outcome(KILLED, BEHAVIOUR, "results"), Outcome(SURVIVED), Outcome(SURVIVED)]
    results = {mutant.id: result_of(mutant, outcome) for mutant, outcome in zip(four, outcomes, strict=True)}
    text = table(four, results, {four[2].id: "because"})
    for row in ("| generated | 4 |", "| equivalent | 1 |", "| killed | 2 |", "| survived | 1 |", "| `leak` | 1 |"):
        assert row in text
    assert "| killed of the non-equivalent | 66.7 % |" in text
    assert rates(four, results, {four[2].id: "because"}) == {"v6.5": pytest.approx(2 / 3)}
    assert f"- `{four[3].id}`" in text
    assert four[2].id not in text


def test_what_is_broken_or_was_not_run_is_not_killed(mutants: dict[str, Mutant]) -> None:
    three = list(mutants.values())[:3]
    results = {
        three[0].id: result_of(three[0], Outcome(KILLED, "leak")),
        three[1].id: result_of(three[1], Outcome(BROKEN, "", "TypeError: ...")),
    }
    assert rates(three, results, {three[2].id: "because"}) == {"v6.5": pytest.approx(1 / 3)}


def test_each_argument_is_about_a_mutant_that_there_is() -> None:
    there = {mutant.id for version in BUILT_IN.values() for mutant in mutants_of(version)}
    arguments = equivalences()
    assert arguments.keys() - there == set()
    assert all(because.endswith(".") for because in arguments.values())
