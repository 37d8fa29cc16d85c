# SPDX-License-Identifier: GPL-2.0-only
"""What commands do for kernel trees alone: build them before anything runs, and outlive their code."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable

from stressvmap.cli.output import complain
from stressvmap.errors import HarnessError, StressVmapError
from stressvmap.scenario import Scenario
from stressvmap.stress import subject
from stressvmap.stress.guard import fork, signal_name
from stressvmap.tree.version import TreeVersion


def prepare(name: str, scenario: Scenario, *, is_quiet: bool) -> None:
    """Build the version for the scenario, if it is a tree; a user is told what takes long, and what the build noted.

    Raises ConfigError (BuildError) where it does not build.
    """
    version = subject.load(name)
    if not isinstance(version, TreeVersion):
        return
    scenario.validate()
    say = _silent if is_quiet else complain
    for note in version.built_for(scenario, say)[0].notes:
        say(f"note: {note}")


def _silent(_message: str) -> None:
    return None


def outlive(act: Callable[[], int], given_up: int) -> int | str:
    """Do it in a process of its own, which the code under test may end. What it returned; or how that process ended.
    `given_up`: exit status by which a watchdog ends it.

    Raises the StressVmapError that it raised. Signals for this process are the other one's, which ends with this one.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    answers, answer = os.pipe()
    lives, life = os.pipe()
    process = fork()
    if process == 0:
        os.close(life)
        threading.Thread(target=_end_with, args=(lives,), daemon=True).start()
        _be_outlived(act, answer)
    os.close(answer)
    os.close(lives)
    before = {number: signal.signal(number, lambda n, _: os.kill(process, n)) for number in (signal.SIGTERM,)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
    try:
        with os.fdopen(answers, "rb") as file:
            told = file.read()
        status = os.waitpid(process, 0)[1]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(life)
    if told:
        value = pickle.loads(told)
        if isinstance(value, StressVmapError):
            raise value
        return int(value)
    if os.WIFSIGNALED(status):
        return signal_name(os.WTERMSIG(status))
    code = os.WEXITSTATUS(status)
    return code if code == given_up else f"exit status {code}"


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


def _end_with(lives: int) -> None:
    """When nobody holds the other end any more, the process that waits is gone."""
    os.read(lives, 1)
    os._exit(1)
