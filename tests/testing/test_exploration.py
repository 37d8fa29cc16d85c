# SPDX-License-Identifier: GPL-2.0-only
"""`explore`: what runs, what fails, and what a failure carries."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from stressvmap.checks.leak import Leak
from stressvmap.errors import ConfigError, HarnessError, ScheduleMismatch
from stressvmap.kernel.function import kernel_function
from stressvmap.scenario import Scenario
from stressvmap.stress.schedule_file import read_schedule, write_schedule
from stressvmap.testing import Outcome, VmapViolation, explore, known_fingerprints
from stressvmap.testing.exploration import Exploration
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5

TINY = Scenario(cpus=2, operations=6, flushes=2)
FULL_BLOCKS = Scenario(workload="fill-block", cpus=2)
FULL_BLOCK = "978ca5627c09"
OTHERS = tuple(fingerprint for fingerprint in known_fingerprints(V6_4) if fingerprint != FULL_BLOCK)


def explored(version: str = "v6.5", scenario: Scenario = TINY, **arguments: Any) -> list[Outcome]:
    """The outcomes that a test without an opinion is called with."""
    seen: list[Outcome] = []

    @explore(scenario, version=version, **arguments)
    def keep(execution: Outcome) -> None:
        seen.append(execution)

    keep()
    return seen


def test_a_test_is_called_for_each_execution_and_the_seed_decides_all_of_them() -> None:
    first, again, other = (explored(schedules=8, seed=number) for number in (3, 3, 4))
    assert [outcome.number for outcome in first] == list(range(8))
    digests = [[outcome.journal.digest() for outcome in outcomes] for outcomes in (first, again, other)]
    assert digests[0] == digests[1] != digests[2]
    assert len(set(digests[0])) == 8
    assert all(outcome.operations and outcome.points for outcome in first)


def test_what_runs_is_printed_with_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    explored(schedules=2, seed=7, strategy="sticky")
    assert capsys.readouterr().out == "stressvmap: v6.5: 2 schedules of sticky, seed 7\n"


def test_a_violation_fails_the_test_before_it_is_called_and_carries_its_schedule() -> None:
    called: list[int] = []

    @explore(FULL_BLOCKS, version=V6_4, allow=OTHERS, schedules=50)
    def full_block(execution: Outcome) -> None:
        called.append(execution.number)

    with pytest.raises(VmapViolation, match="stale-after-unmap-aliases: ") as caught:
        full_block()
    saved = caught.value.stressvmap_schedule
    assert saved is not None
    assert called == list(range(saved.execution))
    assert (saved.fingerprint, saved.version, saved.scenario) == (FULL_BLOCK, "v6.4", FULL_BLOCKS)


def test_an_allowed_violation_is_for_the_test_to_see() -> None:
    outcomes = explored("v6.4", FULL_BLOCKS, schedules=12, allow=known_fingerprints(V6_4))
    assert FULL_BLOCK in {violation.fingerprint for outcome in outcomes for violation in outcome.violations}


def test_what_the_test_itself_raises_carries_the_schedule_too() -> None:
    @explore(TINY, version="v6.5", schedules=5, seed=2)
    def at_the_third(execution: Outcome) -> None:
        assert execution.number < 2

    with pytest.raises(AssertionError) as caught:
        at_the_third()
    saved = caught.value.stressvmap_schedule  # type: ignore[attr-defined]
    assert (saved.execution, saved.seed, saved.fingerprint) == (2, 2, "")


def test_a_test_without_the_argument_is_called_all_the_same_and_keeps_its_own() -> None:
    calls: list[str] = []

    @explore(TINY, version="v6.5", schedules=3)
    def plain(tmp_path: str) -> None:
        calls.append(tmp_path)

    plain(tmp_path="here")
    assert calls == ["here"] * 3
    assert list(inspect.signature(plain).parameters) == ["tmp_path"]


def test_a_run_in_which_nothing_was_flushed_is_no_pass() -> None:
    with pytest.raises(AssertionError, match="inconclusive: no flush was made"):
        explored(scenario=Scenario(cpus=1, operations=1, flushers=0), schedules=1)


def test_a_check_that_was_asked_for_and_cannot_run_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leak, "cannot_run_on", lambda check, journal: "it has no end")
    with pytest.raises(AssertionError, match="inconclusive: check leak could not run: it has no end"):
        explored(schedules=1, checks=["leak", "accounting"])


def test_twice_runs_each_schedule_again() -> None:
    class Forgetful(V6_5):
        calls = 0

        @kernel_function
        def vm_unmap_aliases(self) -> None:
            Forgetful.calls += 1
            if Forgetful.calls % 2:
                self.machine.might_sleep()
            super().vm_unmap_aliases()

    with pytest.raises(HarnessError, match="two runs of one schedule differ"):
        explored(Forgetful, schedules=20, strategy="twice:sticky")  # type: ignore[arg-type]
    assert len(explored(schedules=3, strategy="twice:sticky")) == 3


def test_a_schedule_from_a_file_is_all_that_runs_on_the_tests_own_version(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    kept = explored(schedules=4)[2]
    write_schedule(kept.saved(), path)
    exploration = Exploration(TINY, V6_5, "random", 4, 0, (), frozenset())
    exploration.ask(replay=read_schedule(path))
    (outcome,) = exploration.outcomes()
    assert outcome.journal.digest() == kept.journal.digest()
    assert (outcome.number, outcome.seed, outcome.strategy) == (2, 0, kept.strategy)


def test_a_schedule_that_does_not_fit_any_more_is_a_mismatch_and_no_pass(tmp_path: Path) -> None:
    class FlushesTwice(V6_5):
        @kernel_function
        def vm_unmap_aliases(self) -> None:
            super().vm_unmap_aliases()
            super().vm_unmap_aliases()

    exploration = Exploration(TINY, FlushesTwice, "random", 4, 0, (), frozenset())
    exploration.ask(replay=explored(schedules=1)[0].saved())
    with pytest.raises(ScheduleMismatch, match="decision "):
        list(exploration.outcomes())


def test_a_class_of_the_test_file_is_named_by_its_path_and_one_inside_a_function_as_what_it_is() -> None:
    class Inner(V6_5):
        pass

    (outer,) = explored(Outer, schedules=1)  # type: ignore[arg-type]
    (inner,) = explored(Inner, schedules=1)  # type: ignore[arg-type]
    assert outer.saved().version == f"{Path(__file__).resolve()}:Outer"
    assert inner.saved().version.endswith("<locals>.Inner")


class Outer(V6_5):
    """A patch beside its test."""


async def asynchronous() -> None:
    """No test that could be called."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": "v6.55"}, "did you mean v6.5"),
        ({"version": "v6.5", "strategy": "luck"}, "'luck' is not one of"),
        ({"version": "v6.5", "schedules": 0}, "schedules: 0 is below 1"),
        ({"version": "v6.5", "checks": ["leaks"]}, "'leaks' is not one of"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        explore(TINY, **arguments)


def test_a_coroutine_is_refused_for_its_body_would_never_run() -> None:
    with pytest.raises(ConfigError, match="asynchronous is no plain function"):
        explore(TINY, version="v6.5")(asynchronous)  # type: ignore[arg-type]
