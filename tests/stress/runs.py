# SPDX-License-Identifier: GPL-2.0-only
"""Small scenarios, specs and patch files for the tests of this room."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from stressvmap.config import CONTROLLED, RunSpec
from stressvmap.scenario import Scenario
from stressvmap.stress.engine import Engine

TINY = Scenario(cpus=2, operations=6, flushes=2)
FULL_BLOCKS = Scenario(workload="fill-block", cpus=2)
"""Under which v6.4 shows its full-block bug in few executions."""
FOLDER = Path(__file__).resolve().parents[2]


def spec_of(version: str = "v6.5", scenario: Scenario = TINY, *, runtime: str = CONTROLLED, **rest: Any) -> RunSpec:
    return RunSpec(version=version, scenario=scenario, runtime=runtime, **{"strategy": "random", **rest})


def run_engine(engine: Engine, executions: int | None = None) -> Engine:
    """Run so many executions, or until a budget is used up; the engine stays open."""
    started = time.monotonic()
    done = 0
    while not engine.is_over(started) and (executions is None or done < executions):
        engine.step()
        done += 1
    return engine


def digests(spec: RunSpec, executions: Iterable[int]) -> list[str]:
    """The digests of those executions' journals, all by one engine."""
    engine = Engine(spec, None)
    found = []
    for execution in executions:
        engine.next = execution
        found.append(engine.step().digest())
    engine.finish()
    return found


def write_patch(folder: Path, body: str, base: str = "V6_5") -> str:
    """A patch file with one class `Patch`; what `--version` is to be given."""
    path = folder / "patch.py"
    module = base.lower()
    text = f"import os\n\nfrom stressvmap.vmalloc.{module} import {base}\n\n\nclass Patch({base}):\n"
    path.write_text(text + textwrap.indent(textwrap.dedent(body), "    "))
    return f"{path}:Patch"


def python(code: str, *arguments: str | Path, hash_seed: int | None = None) -> subprocess.Popen[str]:
    """A Python process of its own that runs `code`."""
    environment = dict(os.environ)
    if hash_seed is not None:
        environment["PYTHONHASHSEED"] = str(hash_seed)
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=FOLDER,
        env=environment,
    )


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Poll `condition`; fail if it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} seconds"
        time.sleep(0.02)
