# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from stressvmap.config import CONTROLLED, RunSpec, SoakConfig
from stressvmap.errors import ConfigError
from stressvmap.known import ALWAYS
from stressvmap.result import Finding, RunResult
from stressvmap.scenario import Scenario
from stressvmap.stress import soak as soaking
from stressvmap.stress.canary import CANARIES
from stressvmap.stress.engine import Engine
from stressvmap.stress.soak import ROUNDS, SoakResult, round_spec, soak
from stressvmap.vmalloc import versions
from tests.stress.runs import TINY, python, spec_of

SHORT = SoakConfig(
    versions=("v6.5",),
    workloads=("mixed",),
    runtimes=(CONTROLLED,),
    cpus=(2,),
    block_bits=(8,),
    scenario=TINY,
    round_seconds=1.0,
    seconds=4.0,
    canary_every=4,
)
"""Rounds of a second: the shortest there are."""

Outcome = Callable[[RunSpec], RunResult]
Rounds = Callable[[Outcome], list[RunSpec]]


def finding(check: str, fingerprint: str, *, known: bool = False, count: int = 1) -> Finding:
    return Finding(check, fingerprint, f"{check} | mechanism", "a story", count, known, journal="journals/x.svj")


def result_of(spec: RunSpec, *findings: Finding, seconds: float = 1.0, **rest: Any) -> RunResult:
    return RunResult(
        "soak",
        spec.version,
        "digest",
        spec.runtime,
        "",
        spec.seed,
        asdict(spec.scenario),
        seconds=seconds,
        schedules=10,
        operations=100,
        findings=list(findings),
        **rest,
    )


def caught(spec: RunSpec) -> RunResult:
    """Canaries are caught, and nothing else is."""
    return result_of(spec, *([finding("leak", "c")] if spec.version in CANARIES else []))


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    """Let rounds end at once, with what the given function says; the specs that were run."""

    def install(outcome: Outcome) -> list[RunSpec]:
        specs: list[RunSpec] = []

        def run(spec: RunSpec, **rest: Any) -> RunResult:
            specs.append(spec)
            return outcome(spec)

        monkeypatch.setattr(soaking, "run", run)
        return specs

    return install


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ROUNDS).read_text().splitlines()]


# -- which rounds -------------------------------------------------------------------------------------------


def test_a_round_is_a_function_of_the_seed_and_its_number() -> None:
    config = SoakConfig(seed=3)
    drawn = [round_spec(config, number) for number in range(40)]
    assert [round_spec(config, number) for number in reversed(range(40))] == drawn[::-1]
    assert [round_spec(replace(config, seed=4), number) for number in range(40)] != drawn
    assert len({spec.seed for spec, _ in drawn}) == 40


def test_each_round_is_valid_and_drawn_from_the_lists() -> None:
    config = SoakConfig(scenario=Scenario(reset_rate=0.2, possible=(0, 2, 4, 6)))
    seen: set[str | int] = set()
    for number in range(200):
        spec, is_canary = round_spec(config, number)
        spec.scenario.validate()
        assert is_canary == (number % 10 == 0)
        if not is_canary:
            seen |= {spec.version, spec.runtime, spec.scenario.workload, spec.scenario.cpus, spec.scenario.block_bits}
            assert spec.scenario.reset_rate == 0.2
            assert spec.seconds == config.round_seconds
    assert seen == {*config.versions, *config.workloads, *config.runtimes, *config.cpus, *config.block_bits}


def test_canaries_take_turns_and_run_under_the_default_scenario() -> None:
    config = SoakConfig(canary_every=3, scenario=Scenario(workload="churn", yield_rate=0.2))
    canaries = [round_spec(config, number)[0] for number in range(0, 12, 3)]
    assert [spec.version for spec in canaries] == [*CANARIES, *CANARIES]
    assert all(spec.scenario == Scenario(yield_rate=0.2) for spec in canaries)


def test_rounds_go_on_until_the_time_is_used_up(tmp_path: Path, rounds: Rounds) -> None:
    specs = rounds(caught)
    total = soak(replace(SHORT, seconds=6.5, round_seconds=2.0), tmp_path)
    assert total.rounds == len(specs) == 7
    assert (total.seconds, total.schedules, total.operations) == (7.0, 70, 700)
    assert [spec.seconds for spec in specs] == [2.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0]
    assert total.exit_status == 0


# -- what is kept -------------------------------------------------------------------------------------------


def test_a_soak_goes_on_after_the_last_whole_line(tmp_path: Path, rounds: Rounds) -> None:
    specs = rounds(caught)
    soak(SHORT, tmp_path)
    kept = (tmp_path / ROUNDS).read_bytes()
    with (tmp_path / ROUNDS).open("ab") as file:
        file.write(kept.splitlines()[0][:40])
    total = soak(replace(SHORT, seconds=6.0), tmp_path)
    assert total.rounds == 6
    assert (tmp_path / ROUNDS).read_bytes().startswith(kept)
    assert [line["round"] for line in lines_of(tmp_path)] == list(range(6))
    assert [spec.seed for spec in specs] == [round_spec(SHORT, number)[0].seed for number in range(6)]


def test_a_cut_first_line_is_no_round(tmp_path: Path, rounds: Rounds) -> None:
    rounds(caught)
    (tmp_path / ROUNDS).write_text('{"round": 0, "ver')
    assert soak(SHORT, tmp_path).rounds == 4


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no json", "Expecting value"),
        ("17", "not subscriptable"),
        ('{"round": 1}', "no 'seconds'"),
        ('{"round": 7, "seconds": 1}', "round 7 stands where round 1 should"),
        ("", "Expecting value"),
        ("\udcff", "utf-8"),
    ],
)
def test_a_corrupt_line_is_told_with_file_and_line(tmp_path: Path, rounds: Rounds, line: str, told: str) -> None:
    rounds(caught)
    soak(SHORT, tmp_path)
    kept = (tmp_path / ROUNDS).read_bytes().splitlines()
    kept[1] = line.encode(errors="surrogateescape")
    (tmp_path / ROUNDS).write_bytes(b"\n".join(kept) + b"\n")
    with pytest.raises(ConfigError) as raised:
        soak(replace(SHORT, seconds=9.0), tmp_path)
    assert str(raised.value).startswith(f"{tmp_path / ROUNDS}:2: not a round of a soak (")
    assert told in str(raised.value)


def test_a_soak_whose_time_is_used_up_is_told_how_to_give_more(tmp_path: Path, rounds: Rounds) -> None:
    specs = rounds(caught)
    soak(SHORT, tmp_path)
    with pytest.raises(ConfigError, match="has had its 4 seconds"):
        soak(SHORT, tmp_path)
    assert len(specs) == 4


def test_an_unknown_version_is_told_before_the_first_round(tmp_path: Path, rounds: Rounds) -> None:
    specs = rounds(caught)
    with pytest.raises(ConfigError, match=r"v6\.6"):
        soak(replace(SHORT, versions=("v6.5", "v6.6")), tmp_path)
    assert specs == []


def test_what_a_killed_round_left_is_cleared_before_it_runs_again(tmp_path: Path, rounds: Rounds) -> None:
    left = tmp_path / "round-00000/journals/old.svj"
    left.parent.mkdir(parents=True)
    left.write_text("of a round that never ended")
    rounds(caught)
    soak(SHORT, tmp_path)
    assert not left.exists()


# -- what it comes to ---------------------------------------------------------------------------------------


def test_distinct_findings_are_listed_once_with_their_counts(tmp_path: Path, rounds: Rounds) -> None:
    def outcome(spec: RunSpec) -> RunResult:
        if spec.version in CANARIES:
            return caught(spec)
        return result_of(spec, finding("leak", "a", count=2), finding("stale-access", "b", known=True, count=5))

    rounds(outcome)
    total = soak(SHORT, tmp_path)
    told = [(one.check, one.fingerprint, one.rounds, one.count, one.first_round) for one in total.findings]
    assert told == [("leak", "a", 3, 6, 1), ("stale-access", "b", 3, 15, 1)]
    assert [one.fingerprint for one in total.unknown] == ["a"]
    assert total.findings[0].journal == "round-00001/journals/x.svj"
    assert total.exit_status == 1
    again = soak(replace(SHORT, seconds=6.0), tmp_path)
    assert [(one.fingerprint, one.rounds, one.count) for one in again.findings] == [("a", 4, 8), ("b", 4, 20)]


def test_the_same_mechanism_in_two_versions_is_two_findings(tmp_path: Path, rounds: Rounds) -> None:
    rounds(lambda spec: result_of(spec, finding("leak", "a")))
    total = soak(replace(SHORT, versions=("v6.5", "rfc-3of3"), seconds=12.0), tmp_path)
    assert sorted(one.version for one in total.findings) == ["rfc-3of3", "v6.5"]


def test_only_a_finding_nobody_declared_catches_a_canary(tmp_path: Path, rounds: Rounds) -> None:
    rounds(lambda spec: result_of(spec, finding("leak", "a", known=True)))
    total = soak(SHORT, tmp_path)
    assert (total.canaries, total.canaries_caught, total.is_blind, total.exit_status) == (1, 0, True, 4)
    assert len(total.findings) == 1
    assert total.findings[0].rounds == 3


def test_a_soak_without_canaries_is_blind(tmp_path: Path, rounds: Rounds) -> None:
    rounds(caught)
    assert soak(replace(SHORT, canary_every=0), tmp_path).is_blind


def test_known_breakage_that_never_fired_is_missing_once_every_workload_had_its_round(
    tmp_path: Path, rounds: Rounds
) -> None:
    always = [known for known in versions.load("v6.4").known if known.frequency == ALWAYS]
    assert len(always) >= 2
    declared = finding(always[0].check, always[0].fingerprint, known=True)
    rounds(lambda spec: caught(spec) if spec.version in CANARIES else result_of(spec, declared))
    config = replace(SHORT, versions=("v6.4",), workloads=("mixed", "churn"), seconds=2.0)
    early = soak(config, tmp_path)
    assert (early.missing, early.exit_status) == ([], 0)
    total = soak(replace(config, seconds=20.0), tmp_path)
    assert [known.title in reason for known, reason in zip(always[1:], total.missing, strict=True)] == [True] * (
        len(always) - 1
    )
    assert total.exit_status == 1


def test_what_a_round_says_about_itself_says_which_round(tmp_path: Path, rounds: Rounds) -> None:
    def outcome(spec: RunSpec) -> RunResult:
        return caught(spec) if spec.version in CANARIES else result_of(spec, inconclusive=["it was cut"])

    rounds(outcome)
    total = soak(replace(SHORT, seconds=2.0), tmp_path)
    seed = round_spec(SHORT, 1)[0].seed
    assert total.inconclusive == [f"round 1 (v6.5, mixed, seed {seed}): it was cut"]
    assert total.exit_status == 4


def test_a_failure_of_the_harness_outweighs_the_rest(tmp_path: Path, rounds: Rounds) -> None:
    rounds(lambda spec: result_of(spec, finding("leak", "a"), harness_error="it broke"))
    total = soak(SHORT, tmp_path)
    assert len(total.harness_errors) == 4
    assert total.exit_status == 3


@pytest.mark.parametrize(("findings", "kept"), [((), 1), ((finding("leak", "a"),), 2)])
def test_a_stopped_round_is_kept_only_if_it_found_something(
    tmp_path: Path, rounds: Rounds, findings: tuple[Finding, ...], kept: int
) -> None:
    asked: list[int] = []

    def outcome(spec: RunSpec) -> RunResult:
        if spec.version in CANARIES:
            return caught(spec)
        asked.append(1)
        return result_of(spec, *findings, is_stopped=True)

    rounds(outcome)
    total = soak(SHORT, tmp_path, stop=lambda: len(asked))
    assert (total.is_stopped, total.exit_status) == (True, 130)
    assert total.rounds == len(lines_of(tmp_path)) == kept
    asked.clear()
    rounds(caught)
    assert soak(SHORT, tmp_path).rounds == 4


def test_a_soak_as_json_says_what_it_says_as_an_object(tmp_path: Path, rounds: Rounds) -> None:
    rounds(caught)
    total = soak(SHORT, tmp_path)
    data = json.loads(json.dumps(total.as_dict()))
    assert (data["command"], data["rounds"], data["blind"], data["exit_status"]) == ("soak", 4, False, 0)
    assert SoakResult().as_dict()["blind"]


# -- real rounds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("canary", CANARIES, ids=lambda name: name.rpartition(":")[2])
def test_each_canary_is_caught_within_twenty_executions(canary: str, seed: int) -> None:
    spec = spec_of(canary, Scenario(), seed=seed, schedules=20, stop_at_first=True)
    engine = Engine(spec, None)
    while not engine.is_over(0.0):
        engine.step()
    assert any(not one.known for one in engine.finish().findings.values())


def test_a_real_soak_catches_its_canary_and_one_that_is_none_makes_it_blind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SHORT, seconds=1.0)
    seen = soak(config, tmp_path / "seen")
    assert (seen.canaries, seen.canaries_caught, seen.is_blind, seen.exit_status) == (1, 1, False, 0)
    assert seen.findings == []
    assert list((tmp_path / "seen/round-00000/journals").iterdir())
    monkeypatch.setattr(soaking, "CANARIES", ("v6.5",))
    blind = soak(config, tmp_path / "blind")
    assert (blind.canaries, blind.canaries_caught, blind.is_blind, blind.exit_status) == (1, 0, True, 4)


SOAK = """
    import sys
    from dataclasses import replace
    from pathlib import Path
    from stressvmap.stress.soak import soak
    from tests.stress.test_soak import SHORT
    progress = lambda number, spec, now, total: print(number, now.schedules, flush=True)
    soak(replace(SHORT, seconds=3600.0), Path(sys.argv[1]), progress=progress)
"""


def test_a_soak_that_is_killed_loses_at_most_the_running_round(tmp_path: Path) -> None:
    process = python(SOAK, tmp_path)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            number, schedules = map(int, line.split())
            if number >= 1 and schedules > 0:
                break
        kept = lines_of(tmp_path)
    finally:
        process.kill()
        process.communicate()
    assert [line["round"] for line in kept] == [0]
    before = sum(line["seconds"] for line in kept)
    total = soak(replace(SHORT, seconds=before + 0.5), tmp_path)
    assert lines_of(tmp_path)[:1] == kept
    assert [line["round"] for line in lines_of(tmp_path)] == [0, 1]
    assert total.rounds == 2
    assert total.schedules > kept[0]["schedules"] > 0
    assert total.seconds > before


def test_a_real_soak_stops_in_the_middle_of_a_round(tmp_path: Path) -> None:
    """One that has found nothing by then is not kept: here nobody calls vm_unmap_aliases beside the workers."""
    shown: list[int] = []
    quiet = replace(SHORT.scenario, flushers=0, fault_rate=0.0)
    config = replace(SHORT, versions=("v6.5",), workloads=("mixed",), scenario=quiet, canary_every=0)
    total = soak(
        replace(config, round_seconds=3600.0, seconds=3600.0),
        tmp_path,
        progress=lambda number, spec, now, total: shown.append(now.schedules),
        stop=lambda: int(bool(shown) and shown[-1] > 0),
    )
    assert (total.is_stopped, total.rounds, total.exit_status) == (True, 0, 130)
    assert lines_of(tmp_path) == []
