# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin, in pytest runs of their own."""

import importlib.metadata
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stressvmap.stress.schedule_file import read_schedule

ROOT = Path(__file__).resolve().parents[2]
IS_INSTALLED = bool(importlib.metadata.entry_points(group="pytest11", name="stressvmap"))
WITH_PLUGIN = () if IS_INSTALLED else ("-p", "stressvmap.pytest_plugin")
PLAIN = ("-p", "no:cacheprovider", "-p", "no:randomly")

EXPLORED = """
from stressvmap.scenario import Scenario
from stressvmap.testing import explore

DYING_BLOCK = "bc0b99b2d629"

@explore(
    Scenario(workload="fill-block", cpus=2),
    version="v6.4",
    schedules=40,
    checks=["stale-after-unmap-aliases"],
    allow=[DYING_BLOCK],
)
def test_full_block(execution):
    print("called for execution", execution.number)
"""
ASSERTS = """
from stressvmap.scenario import Scenario
from stressvmap.testing import explore

class TestIt:
    @explore(Scenario(cpus=2, operations=6), version="v6.5", schedules=5)
    def test_numbers(self, execution, tmp_path):
        assert tmp_path.is_dir()
        print("execution", execution.number, "seed", execution.seed, execution.strategy)
        assert execution.number != 3
"""
# Nearly every program shows this violation, so that no test here depends on luck.
DRAWN = """
from hypothesis import given, settings
from stressvmap.scenario import Scenario
from stressvmap.testing import interleavings, register_profiles, run_concurrently

register_profiles()
SMALL = Scenario(
    cpus=2, window_blocks=6, slots=2, large_rate=0, vmalloc_rate=0, fault_rate=0, migration_rate=0, witness=False
)

@settings(settings.get_profile("dev"), max_examples=300, report_multiple_bugs=False{settings})
@given(interleavings(SMALL)){decorator}
def test_drawn(drawn):
    run_concurrently("v6.4", SMALL, drawn.program, drawn.strategy, checks=["range-computed-unlocked"])
"""


def run(pytester: pytest.Pytester, source: str, *arguments: str | Path) -> pytest.RunResult:
    pytester.makepyfile(test_it=source)
    return pytester.runpytest_inprocess(*PLAIN, *WITH_PLUGIN, *arguments)


def kept(pytester: pytest.Pytester) -> Path:
    (path,) = (pytester.path / ".stressvmap").glob("*.json")
    return path


# -- what a failure's report says --------------------------------------------------------------------------


def test_the_report_of_a_failure_names_the_seed_and_the_command_that_replays_it(pytester: pytest.Pytester) -> None:
    result = run(pytester, EXPLORED)
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            "E .*stale-after-unmap-aliases: .*",
            "-* stressvmap -*",
            r"execution \d+, seed 0, strategy .*",
            r"replay: stressvmap replay \.stressvmap/test_it\.py-test_full_block-978ca5627c09\.json",
            r"replay: pytest test_it\.py::test_full_block --stressvmap-schedule \.stressvmap/.*\.json",
        ],
        consecutive=False,
    )
    assert read_schedule(kept(pytester)).fingerprint == "978ca5627c09"
    assert (pytester.path / ".stressvmap" / ".gitignore").read_text() == "*\n"


def test_the_printed_command_is_right_where_pytest_was_started(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]")
    folder = pytester.mkdir("below")
    (folder / "test_it.py").write_text(EXPLORED)
    monkeypatch.chdir(folder)
    result = pytester.runpytest_inprocess(*PLAIN, *WITH_PLUGIN, "test_it.py")
    result.stdout.re_match_lines([r"replay: pytest test_it\.py::test_full_block --stressvmap-schedule /.*\.json"])


def test_the_traceback_of_a_violation_shows_none_of_the_machinery(pytester: pytest.Pytester) -> None:
    result = run(pytester, EXPLORED)
    frames = re.findall(r"^(\S+\.py):\d+: ", result.stdout.str(), re.MULTILINE)
    assert len(frames) <= 1


def test_what_the_test_itself_asserts_is_reported_in_the_same_way(pytester: pytest.Pytester) -> None:
    result = run(pytester, ASSERTS)
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"execution 3, seed 0, strategy .*", r"replay: stressvmap replay .*-failure\.json"])
    assert read_schedule(kept(pytester)).execution == 3


def test_a_failure_that_hypothesis_shrank_is_reported_in_the_same_way(pytester: pytest.Pytester) -> None:
    result = run(pytester, DRAWN.format(settings=", database=None, derandomize=True", decorator=""))
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        ["E .*range-computed-unlocked: .*", r"replay: stressvmap replay \.stressvmap/.*\.json"]
    )
    assert "--stressvmap-schedule" not in result.stdout.str()
    assert read_schedule(kept(pytester)).program.operations <= 2


def test_a_schedule_that_cannot_be_kept_does_not_hide_the_failure(pytester: pytest.Pytester) -> None:
    (pytester.path / ".stressvmap").write_text("in the way")
    result = run(pytester, EXPLORED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["its schedule could not be kept: *: File exists"])


def test_a_test_that_has_nothing_to_do_with_it_is_left_alone(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_plain():\n    assert False\n")
    result.assert_outcomes(failed=1)
    assert "stressvmap" not in re.sub(r"^plugins: .*$", "", result.stdout.str(), flags=re.MULTILINE)
    assert not (pytester.path / ".stressvmap").exists()


# -- options -----------------------------------------------------------------------------------------------


def test_a_schedule_file_is_exactly_what_runs(pytester: pytest.Pytester) -> None:
    run(pytester, ASSERTS)
    again = run(pytester, ASSERTS, "--stressvmap-schedule", kept(pytester))
    again.assert_outcomes(failed=1)
    told = re.findall(r"^execution (\d+) seed", again.stdout.str(), re.MULTILINE)
    assert told == ["3"]


def test_seed_strategy_and_number_take_precedence_over_the_decorator(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        ASSERTS,
        "--stressvmap-seed=9",
        "--stressvmap-strategy=sticky:0.5",
        "--stressvmap-schedules=3",
        "-rP",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["stressvmap: v6.5: 3 schedules of sticky:0.5, seed 9", "execution 0 seed 9 sticky*", "execution 2 seed 9 *"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stressvmap-schedule=none.json"], "none.json: cannot be read: No such file or directory"),
        (["--stressvmap-strategy=luck"], "strategy: 'luck' is not one of "),
        (["--stressvmap-schedules=0"], "schedules: 0 is below 1"),
        (["--stressvmap-schedule=x.json", "--stressvmap-seed=1"], "so --stressvmap-seed means nothing"),
    ],
)
def test_bad_input_ends_the_run_before_it_begins(pytester: pytest.Pytester, arguments: list[str], message: str) -> None:
    result = run(pytester, ASSERTS, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


def test_options_that_concern_no_test_are_said_to_change_nothing(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_plain():\n    pass\n", "--stressvmap-seed=1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["stressvmap: none of the tests is decorated by explore*"])


def test_the_plugin_itself_costs_a_pytest_run_nothing() -> None:
    code = (
        "import sys, stressvmap.pytest_plugin;"
        "print([name for name in ('hypothesis', 'pydantic', 'greenlet', 'rich', 'typer') if name in sys.modules],"
        "sorted(name for name in sys.modules if name.startswith('stressvmap.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[] ['stressvmap.pytest_plugin', 'stressvmap.version']\n"


# -- hypothesis's own ways to see a failure again ----------------------------------------------------------


def test_a_printed_blob_and_the_example_database_show_a_concurrent_failure_again_in_another_process(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    database = ", database=hypothesis.database.DirectoryBasedExampleDatabase('examples')"
    pytester.makepyfile(test_it="import hypothesis\n" + DRAWN.format(settings=database, decorator=""))
    first = pytester.runpytest_subprocess(*PLAIN, *WITH_PLUGIN)
    (blob,) = set(re.findall(r"@reproduce_failure\((.*)\)", first.stdout.str()))

    reuse = database + ", phases=[hypothesis.Phase.reuse]"
    by_database = run(pytester, "import hypothesis\n" + DRAWN.format(settings=reuse, decorator=""))
    decorator = f"\n@hypothesis.reproduce_failure({blob})"
    by_blob = run(pytester, "import hypothesis\n" + DRAWN.format(settings=", database=None", decorator=decorator))
    for result in (first, by_database, by_blob):
        result.assert_outcomes(failed=1)
        assert story_of(result) == story_of(first)
    assert "range-computed-unlocked" in story_of(first)[0]


def story_of(result: pytest.RunResult) -> list[str]:
    """The lines of the exception's message."""
    lines = [line for line in result.stdout.lines if line.startswith("E  ")]
    return list(itertools.takewhile(lambda line: "Failing test case" not in line, lines))
