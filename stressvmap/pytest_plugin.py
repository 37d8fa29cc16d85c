# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: options for tests that `stressvmap.testing.explore` decorates, and the schedule in the report of
any test that failed with one.

It is loaded in every pytest run of an environment, so it imports nothing of the project before it is needed, and
knows `stressvmap.testing` only by two attributes: `stressvmap_exploration` of a test, whose `ask` takes the options,
and `stressvmap_schedule` of an exception, the schedule that shows it again.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

FOLDER: Final = ".stressvmap"
"""Below pytest's root folder: where the schedules of failed tests are kept."""
STEM_MAX: Final = 120
"""Characters of a test's name in the name of its file."""

_ASKED: Final = pytest.StashKey[dict[str, Any]]()
_USES: Final = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; without one, each test runs what its decorator says."""
    group = parser.getgroup("stressvmap", "stressvmap: tests that stressvmap.testing.explore decorates")
    group.addoption("--stressvmap-schedule", metavar="FILE", help="run exactly the schedule in FILE, nothing else")
    group.addoption(
        "--stressvmap-strategy", metavar="S", help="how schedules are decided, as `stressvmap stress` takes it"
    )
    group.addoption("--stressvmap-seed", metavar="N", type=int, help="decides all programs and schedules")
    group.addoption("--stressvmap-schedules", metavar="N", type=int, help="executions of each test")


def pytest_configure(config: pytest.Config) -> None:
    """Read the options at once: bad input ends the run before it begins, in one line."""
    asked = {
        name: value
        for name in ("strategy", "seed", "schedules")
        if (value := config.getoption(f"stressvmap_{name}")) is not None
    }
    schedule = config.getoption("stressvmap_schedule")
    if asked or schedule is not None:
        _read(asked, schedule)
    config.stash[_ASKED] = asked
    config.stash[_USES] = 0


def _read(asked: dict[str, Any], schedule: str | None) -> None:
    """Check what was asked for, and add the schedule in the file. Raises pytest.UsageError."""
    from stressvmap.errors import ConfigError
    from stressvmap.sched.portfolio import make_strategy
    from stressvmap.stress.schedule_file import read_schedule

    try:
        if "strategy" in asked:
            make_strategy(asked["strategy"], 0)
        if asked.get("schedules", 1) < 1:
            raise ConfigError(f"schedules: {asked['schedules']} is below 1: nothing would be run")
        if schedule is not None:
            if asked:
                raise ConfigError(
                    f"schedule: {schedule} decides all, so --stressvmap-{next(iter(asked))} means nothing"
                )
            asked["replay"] = read_schedule(Path(schedule))
    except ConfigError as error:
        raise pytest.UsageError(f"--stressvmap: {error}") from None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Hand the options to the test's exploration."""
    exploration = getattr(getattr(item, "obj", None), "stressvmap_exploration", None)
    if exploration is not None and item.config.stash[_ASKED]:
        exploration.ask(**item.config.stash[_ASKED])
        item.config.stash[_USES] += 1


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    """Say it if the options concern no test: a run that ignored them proves nothing about them."""
    if config.stash[_ASKED] and not config.stash[_USES]:
        return "stressvmap: none of the tests is decorated by explore, so the --stressvmap options change nothing"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the schedule of a failed test, and say in its report how to see the failure again."""
    report = yield
    if report.failed and call.excinfo is not None:
        for error in _leaves(call.excinfo.value):
            saved = getattr(error, "stressvmap_schedule", None)
            if saved is not None:
                report.sections.append(("stressvmap", "\n".join(_told(item, error, saved))))
    return report


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions of a group (Hypothesis raises one for several failures), or the one there is."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    else:
        yield error


def _told(item: pytest.Item, error: BaseException, saved: Any) -> Iterator[str]:
    """The section's lines."""
    is_explored = hasattr(getattr(item, "obj", None), "stressvmap_exploration")
    if is_explored:
        yield f"execution {saved.execution}, seed {saved.seed}, strategy {saved.strategy}"
    if saved.message and saved.message not in str(error):
        yield saved.message
    path = _path(item, saved)
    try:
        _write(saved, path)
    except OSError as problem:
        yield f"its schedule could not be kept: {path}: {problem.strerror}"
        return
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    if "<locals>" not in saved.version:
        yield f"replay: stressvmap replay {shown}"
    if is_explored:
        yield f"replay: pytest {shlex.quote(_as_typed(item))} --stressvmap-schedule {shown}"


def _as_typed(item: pytest.Item) -> str:
    """The test as pytest takes it in the folder it was started in; a node id is relative to the root folder."""
    _, colons, name = item.nodeid.partition("::")
    return os.path.relpath(item.path, item.config.invocation_params.dir) + colons + name


def _path(item: pytest.Item, saved: Any) -> Path:
    stem = re.sub(r"[^\w.-]+", "-", item.nodeid)[-STEM_MAX:].strip("-")
    return item.config.rootpath / FOLDER / f"{stem}-{saved.fingerprint or 'failure'}.json"


def _write(saved: Any, path: Path) -> None:
    from stressvmap.stress.schedule_file import write_schedule

    path.parent.mkdir(exist_ok=True)
    ignore = path.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    write_schedule(saved, path)
