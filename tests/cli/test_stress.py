# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
from pathlib import Path

import pytest

from stressvmap.config import RunSpec
from stressvmap.errors import HarnessError
from stressvmap.known import ALWAYS
from stressvmap.result import RunResult
from stressvmap.vmalloc import versions
from tests.cli.conftest import Command, Outcome, Stub, finding, result_of


def clean(spec: RunSpec) -> RunResult:
    return result_of(spec)


def known_of(spec: RunSpec) -> RunResult:
    known = [entry for entry in versions.load(spec.version).known if entry.frequency == ALWAYS]
    return result_of(spec, *(finding(entry.check, known=True, fingerprint=entry.fingerprint) for entry in known))


def test_a_real_run_finds_the_full_block_bug_of_v6_4(command: Command, tmp_path: Path) -> None:
    ran = command(
        "stress", "--version", "v6.4", "--runtime", "controlled", "--schedules", "20", "--json", "--out", "o"
    )  # fmt: skip
    assert ran.status == 1
    assert {"stale-after-unmap-aliases", "range-computed-unlocked"} <= {
        entry["check"] for entry in ran.object["violations"]
    }
    assert ran.object == json.loads((tmp_path / "o/result.json").read_text())
    assert ran.object["schema"] == 1
    assert ran.object["schedules"] == 20
    for entry in ran.object["violations"]:
        assert (tmp_path / "o" / entry["journal"]).is_file()
        assert (tmp_path / "o" / entry["schedule"]).is_file()
    assert {"result.json", "run.log", "config.toml", "journals", "schedules"} == {
        path.name for path in (tmp_path / "o").iterdir()
    }


def test_the_verdict_tells_the_story_the_evidence_and_the_next_command(command: Command, stub_harness: Stub) -> None:
    stub_harness(lambda spec: result_of(spec, finding("leak"), finding("accounting", known=True, fingerprint="f" * 12)))
    ran = command("stress", "--version", "v6.5", "--out", "o")
    assert ran.status == 1
    assert "v6.5: VIOLATED, 2 distinct (1 known, 1 new)" in ran.out
    assert "NEW: the version does not declare it" in ran.out
    assert "known: fc1e0d980037" in ran.out
    assert "| the story" in ran.out
    assert "look closer: stressvmap show o/journals/0123456789ab.svj --range pages:0x100000-0x100004" in ran.out
    assert "10 executions, 100 operations, 7 flushes, 5 page debts" in ran.out
    assert ran.out.endswith("exit status 1: violated\n")


def test_the_defaults_are_the_newest_version_and_ten_seconds_of_mixed_under_control(
    command: Command, stub_harness: Stub
) -> None:
    specs = stub_harness(clean)
    assert command("stress").status == 0
    (spec,) = specs
    assert (spec.version, spec.scenario.workload, spec.runtime, spec.seconds) == (
        versions.DEFAULT,
        "mixed",
        "controlled",
        10,
    )


def test_several_runs_are_one_object_with_runs_and_a_table(command: Command, stub_harness: Stub) -> None:
    specs = stub_harness(clean)
    arguments = ("stress", "--version", "v6.4", "--version", "v6.5", "--workload", "mixed", "--workload", "churn")
    ran = command(*arguments, "--json", "--seconds", "8")
    assert [run["version"] for run in ran.object["runs"]] == ["v6.4", "v6.4", "v6.5", "v6.5"]
    assert {spec.seconds for spec in specs} == {2.0}
    assert ran.object["verdict"] == "clean"
    assert "pages owed" in command(*arguments).out


def test_options_take_precedence_over_the_file(command: Command, stub_harness: Stub, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        'versions = ["v6.4"]\nseconds = 9\nseed = 3\n[scenario]\ncpus = 2\n[workload.mixed]\ncpus = 3\nslots = 9\n'
    )
    specs = stub_harness(clean)
    command("stress", "--config", "c.toml", "--cpus", "5", "--schedules", "4", "--check", "leak")
    (spec,) = specs
    assert (spec.scenario.cpus, spec.scenario.slots, spec.seed) == (5, 9, 3)
    assert (spec.seconds, spec.schedules, spec.checks) == (None, 4, ("leak",))


def test_max_alloc_follows_block_bits_unless_a_file_sets_it(
    command: Command, stub_harness: Stub, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text("[scenario]\nmax_alloc = 4\n")
    specs = stub_harness(clean)
    command("stress", "--block-bits", "1024")
    command("stress", "--block-bits", "4")
    command("stress", "--block-bits", "64", "--config", "c.toml")
    assert [spec.scenario.max_alloc for spec in specs] == [64, 2, 4]


def test_the_resolved_configuration_can_be_run_again(command: Command, stub_harness: Stub, tmp_path: Path) -> None:
    patch = "from stressvmap.vmalloc.v6_5 import V6_5\nclass P(V6_5):\n    pass\n"
    (tmp_path / "p.py").write_text(patch)
    specs = stub_harness(clean)
    command(
        "stress", "--version", "v6.4", "--version", "./p.py:P", "--limit", "excess-flush=10", "--block-bits", "16",
        "--expect", "leak", "--seconds", "3.5", "--jobs", "2", "--stop-at-first", "--out", "one",
    )  # fmt: skip
    first = list(specs)
    specs.clear()
    command("stress", "--config", "one/config.toml", "--out", "two")
    paths = [versions.absolute(spec.version, tmp_path) for spec in first]
    assert [spec.version for spec in specs] == paths
    assert [(spec.scenario, spec.expect, spec.seconds) for spec in specs] == [
        (spec.scenario, spec.expect, spec.seconds) for spec in first
    ]
    assert first[0].scenario.limits == {"excess-flush": 10.0}
    assert (tmp_path / "one/config.toml").read_text() == (tmp_path / "two/config.toml").read_text()


def test_known_is_expected_of_a_version_over_all_its_workloads(command: Command, stub_harness: Stub) -> None:
    stub_harness(lambda spec: known_of(spec) if spec.scenario.workload == "mixed" else clean(spec))
    arguments = ("stress", "--version", "v6.4", "--expect", "known", "--workload", "mixed", "--workload", "churn")
    ran = command(*arguments)
    assert ran.status == 0
    assert "as expected: the declared breakage, and nothing else fired" in ran.out


def test_known_breakage_that_is_always_there_and_does_not_fire_is_a_failure(
    command: Command, stub_harness: Stub
) -> None:
    stub_harness(clean)
    ran = command("stress", "--version", "v6.4", "--expect", "known", "--workload", "mixed", "--workload", "churn")
    assert ran.status == 1
    assert "did not fire in any of 2 runs" in ran.out
    assert command("stress", "--version", "v6.5", "--expect", "known").status == 0


def test_what_is_not_declared_is_a_failure_where_known_is_expected(command: Command, stub_harness: Stub) -> None:
    stub_harness(lambda spec: result_of(spec, finding("leak")))
    ran = command("stress", "--version", "v6.5", "--expect", "known", "--json")
    assert ran.status == 1
    assert ran.object["expect_unmet"] == ["v6.5: leak:0123456789ab fired, and is not declared as known"]


@pytest.mark.parametrize(
    ("expect", "status"),
    [("leak", 0), ("leak:0123456789ab", 0), ("leak:000000000000", 1), ("accounting", 1), ("none", 1)],
)
def test_a_list_expects_just_those_checks(command: Command, stub_harness: Stub, expect: str, status: int) -> None:
    stub_harness(lambda spec: result_of(spec, finding("leak")))
    assert command("stress", "--expect", expect).status == status


def broken(spec: RunSpec) -> RunResult:
    result = result_of(spec, finding("leak"))
    result.harness_error = "KeyError: 3\nTraceback (most recent call last):\n ..."
    return result


def stopped(spec: RunSpec) -> RunResult:
    result = result_of(spec, finding("leak"))
    result.is_stopped = True
    return result


def inconclusive(spec: RunSpec) -> RunResult:
    result = result_of(spec)
    result.inconclusive = ["no step in 30 seconds: execution 3\nstacks\n..."]
    return result


@pytest.mark.parametrize(("outcome", "status"), [(clean, 0), (inconclusive, 4), (stopped, 130), (broken, 3)])
def test_exit_statuses(command: Command, stub_harness: Stub, outcome: Outcome, status: int, tmp_path: Path) -> None:
    stub_harness(outcome)
    ran = command("stress", "--out", "o")
    assert ran.status == status
    assert json.loads((tmp_path / "o/result.json").read_text())["exit_status"] == status
    assert "Traceback" not in ran.out + ran.err


def test_the_worst_run_decides(command: Command, stub_harness: Stub) -> None:
    def by_version(spec: RunSpec) -> RunResult:
        return {"v6.4": inconclusive, "v6.5": lambda spec: result_of(spec, finding("leak")), "rfc-3of3": broken}[
            spec.version
        ](spec)

    stub_harness(by_version)
    assert command("stress", "--version", "v6.4", "--version", "v6.5").status == 1
    assert command("stress", "--version", "v6.4", "--version", "v6.5", "--version", "rfc-3of3").status == 3


def test_a_failure_of_ours_is_one_message_that_says_where_the_traceback_is(
    command: Command, stub_harness: Stub, tmp_path: Path
) -> None:
    def fail(spec: RunSpec) -> RunResult:
        raise KeyError("what\nnow")

    stub_harness(fail)
    ran = command("stress", "--out", "o")
    assert ran.status == 3
    assert "a bug of ours: KeyError" in ran.err
    assert "the traceback is in o/traceback.txt" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in (tmp_path / "o/traceback.txt").read_text()


def test_runs_before_a_failure_are_kept(command: Command, stub_harness: Stub, tmp_path: Path) -> None:
    def second_fails(spec: RunSpec) -> RunResult:
        if spec.version == "v6.5":
            raise HarnessError("no luck")
        return result_of(spec, finding("leak"))

    stub_harness(second_fails)
    ran = command("stress", "--version", "v6.4", "--version", "v6.5", "--out", "o")
    assert ran.status == 3
    assert ran.err.endswith("stressvmap: no luck\n")
    assert len(json.loads((tmp_path / "o/result.json").read_text())["runs"]) == 1


def test_quiet_and_json_show_no_progress(command: Command, stub_harness: Stub) -> None:
    stub_harness(clean)
    assert command("stress", "-q").err == ""
    assert command("stress", "--json").err == ""


def test_v_logs_to_standard_error_and_the_log_is_kept(command: Command, stub_harness: Stub, tmp_path: Path) -> None:
    stub_harness(clean)
    ran = command("stress", "-v", "--out", "o")
    assert "INFO" in ran.err
    assert "v6.5, mixed, controlled: clean" in (tmp_path / "o/run.log").read_text()


@pytest.mark.parametrize("name", ["stress", "check", "show", "versions", "soak", "report"])
def test_help_teaches_by_example(command: Command, name: str) -> None:
    ran = command(name, "--help")
    assert ran.status == 0
    assert f"  stressvmap {name}" in ran.out
    assert "--json" in ran.out
