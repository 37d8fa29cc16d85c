# SPDX-License-Identifier: GPL-2.0-only
"""What commands do for kernel trees alone: build them before anything runs, and outlive their code."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterable

from stressvmap.cli.output import complain
from stressvmap.errors import HarnessError, StressVmapError
from stressvmap.scenario import Scenario
from stressvmap.stress import subject
from stressvmap.stress.guard import end_with_parent, ended, fork
from stressvmap.tree.build import nothing
from stressvmap.tree.version import TreeVersion


def prepare(subjects: Iterable[tuple[str, Scenario]], *, is_quiet: bool) -> None:
    """Build the versions among (version, scenario) that are trees; a user is told what takes long, and once what the
    builds noted. Raises ConfigError (BuildError) where one does not build.
    """
    say = nothing if is_quiet else complain
    noted: dict[str, None] = {}
    for name, scenario in subjects:
        version = subject.load(name)
        if isinstance(version, TreeVersion):
            scenario.validate()
            noted.update(dict.fromkeys(version.built_for(scenario, say)[0].notes))
    for note in noted:
        say(f"note: {note}")


def outlive(act: Callable[[], int], given_up: int) -> int | str:
    """Do it in a process of its own, which the code under test may end. What it returned; or how that process ended.
    `given_up`: exit status by which a watchdog ends it.

    Raises the StressVmapError that it raised. Signals for this process are the other one's, which ends with this one.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    answers, answer = os.pipe()
    process = fork()
    if process == 0:
        end_with_parent()
        _be_outlived(act, answer)
    os.close(answer)
    on_term = signal.signal(signal.SIGTERM, lambda number, _: os.kill(process, number))
    on_int = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
    try:
        with os.fdopen(answers, "rb") as file:
            told = file.read()
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    finally:
        signal.signal(signal.SIGTERM, on_term)
        signal.signal(signal.SIGINT, on_int)
    if told:
        value = pickle.loads(told)
        if isinstance(value, StressVmapError):
            raise value
        return int(value)
    return code if code == given_up else ended(code)


def _be_outlived(act: Callable[[], int], answer: int) -> None:
    """It ends by its answer. Without one it was ended by a watchdog, or by the code under test."""
    value: int | StressVmapError
    try:
        value = act()
    except StressVmapError as error:
        value = error
    except BaseException as error:
        value = HarnessError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    try:
        sys.stdout.flush()
        os.write(answer, pickle.dumps(value))
    finally:
        os._exit(1)
