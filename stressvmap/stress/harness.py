# SPDX-License-Identifier: GPL-2.0-only
"""One run: its shares in worker processes, a watchdog over them, and one RunResult.

Nothing here can hang: a worker that makes no step for `stall_seconds` has its stacks written down and is killed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Final

from stressvmap.checks.lock_times import figures
from stressvmap.config import CONTROLLED, RunSpec
from stressvmap.errors import ConfigError
from stressvmap.quantity import counted
from stressvmap.result import RunResult
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress import subject
from stressvmap.stress.allowed_races import read_allowed
from stressvmap.stress.engine import FINDINGS_MAX, Checkpoint, Tally, has_substance, scenario_dict
from stressvmap.stress.messages import Beat, Failure, Message, Order
from stressvmap.tree.version import TreeVersion, is_tree

POLL_SECONDS: Final = 0.1
GRACE_SECONDS: Final = 10.0
"""How long a worker may take to stop when asked to."""
REPLACEMENTS_MAX: Final = 2
"""How many may take the place of one that died or hung; they make copies first, so few are needed."""
START_SECONDS: Final = 60.0
"""How long a worker may take to make its first step, on a loaded machine."""


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    seconds: float = 0.0
    schedules: int = 0
    operations: int = 0
    points: int = 0
    flushes: int = 0
    flushed_pages: int = 0
    owed_pages: int = 0
    distinct_journals: int = 0
    """By happens-before; summed over the worker processes, so some may count twice until the end."""
    unseen: float = 1.0
    """How likely the next execution is to show another, as estimated in one of them."""
    violations: int = 0
    """Distinct findings."""
    unknown: int = 0
    """Those of them that the version does not declare."""
    phase: str = "running"


class _Worker:
    """One worker process, and those that take its place: a kernel tree's code may end the process, and is then gone on
    with in another, from the last checkpoint on and in copies first (guard).

    `last` is its last beat, `changed` when that last differed from the one before.
    """

    def __init__(self, spec: RunSpec, folder: Path | None, first: int, stride: int, scratch: Path) -> None:
        self.order = Order(spec, folder, first, stride, scratch / f"stacks-{first}.txt")
        self.stacks = self.order.stacks
        self.errors = scratch / f"stderr-{first}.txt"
        self.is_controlled = spec.runtime == CONTROLLED
        self.is_replaceable = self.is_controlled and is_tree(spec.version)
        self.is_stopping = False
        self.last: Beat | None = None
        self.tally: Tally | None = None
        self.failure: Failure | None = None
        self.is_over = False
        self.stuck = ""
        self.died = ""
        self.replaced: list[str] = []
        """How each process ended that another took the place of."""
        self._born = time.monotonic()
        self._start()

    def _start(self) -> None:
        ours, theirs = Pipe()
        self.connection: Connection[Order | str, Message] = ours
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "stressvmap.stress.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                env={"MALLOC_ARENA_MAX": "1", **os.environ, "PYTHONPATH": _module_path()},
            )
        theirs.close()
        self.changed = time.monotonic()
        self.is_started = False
        """It has made a step."""
        ours.send(self.order)

    def _replace(self, how: str) -> bool:
        """Let another process go on where this one was last known to stand; whether that is of use."""
        checkpoint = self.order.checkpoint
        if not self.is_replaceable or self.is_stopping or len(self.replaced) >= REPLACEMENTS_MAX:
            self.tally = None if checkpoint is None else checkpoint.tally
            return False
        self.replaced.append(how)
        self.connection.close()
        self.order = replace(self.order, is_guarded=True, spent=time.monotonic() - self._born)
        self._start()
        return True

    def receive(self) -> None:
        """Take one message, or learn that the process is gone."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            status = self.process.wait()
            text = self.errors.read_text(errors="replace").strip()
            how = f"a worker process died ({_status(status)})" + (f": {text.splitlines()[-1]}" if text else "")
            if not self._replace(how):
                self.died = how
                self.is_over = True
            return
        if isinstance(message, Beat):
            self.is_started = True
            if self.last is None or (message.execution, message.points) != (self.last.execution, self.last.points):
                self.changed = time.monotonic()
            self.last = message
        elif isinstance(message, Checkpoint):
            self.order.checkpoint = message
        elif isinstance(message, Tally):
            self.tally = message
            self.is_over = True
        else:
            self.failure = message
            self.is_over = True

    def stop(self) -> None:
        """Ask it to end. One that has ended already may have left its answer in the connection."""
        self.is_stopping = True
        with suppress(OSError):
            self.connection.send("stop")

    def kill_stuck(self, seconds: float) -> None:
        """Write down where it is stuck, and end it."""
        where = (
            "before its first step"
            if self.last is None
            else f"execution {self.last.execution}, step {self.last.points}, last seen as {self.last.where}"
        )
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        stacks = self.stacks.read_text(errors="replace") if self.stacks.exists() else ""
        if self.is_controlled:
            where += _innermost(stacks)
        how = f"no step in {seconds:.0f} seconds: {where}"
        self.process.kill()
        self.process.wait()
        if not self._replace(how):
            self.stuck = f"{how}\n{stacks}".rstrip()
            self.connection.close()
            self.is_over = True

    def kill(self) -> None:
        """End the process at once and reap it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.connection.close()


def run(
    spec: RunSpec,
    *,
    folder: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], int] | None = None,
    jobs: int = 1,
    command: str = "stress",
) -> RunResult:
    """Run `spec` and return what it found. Raises ConfigError (PatchError) for bad input; never prints.

    `stop` is polled: 0 go on, 1 end gracefully (what ran is checked and reported), 2 end at once. `folder` takes the
    journals of first occurrences. `jobs` processes share the executions; under the controlled runtime their number
    changes nothing that is found.
    """
    spec.scenario.validate()
    version = subject.load(spec.version)
    if isinstance(version, TreeVersion):
        version.built_for(spec.scenario)  # once, and its errors before any worker starts
        if version.races is not None:
            read_allowed(version.races)
    make_strategy(spec.strategy, spec.seed)
    if spec.execution is not None:
        jobs = 1
    elif spec.seconds is None and spec.schedules is None and spec.operations is None and not spec.stop_at_first:
        raise ConfigError("the run would never end: give seconds, schedules or operations")
    result = RunResult(
        command=command,
        version=version.NAME,
        version_digest=subject.digest(version),
        version_spec=subject.absolute(spec.version, Path.cwd()),
        declared=[
            {"check": k.check, "fingerprint": k.fingerprint, "frequency": k.frequency, "title": k.title}
            for k in version.known
        ],
        runtime=spec.runtime,
        strategy=spec.strategy if spec.runtime != "threads" else "",
        seed=spec.seed,
        scenario=scenario_dict(spec),
        expect=list(spec.expect) if isinstance(spec.expect, tuple) else spec.expect,
    )
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stressvmap-") as scratch:
        workers = [_Worker(spec, folder, first, jobs, Path(scratch)) for first in range(jobs)]
        try:
            _watch(workers, spec, result, started, progress, stop)
        finally:
            for worker in workers:
                worker.kill()
    result.seconds = time.monotonic() - started
    _conclude(result, workers, spec)
    if folder is not None:
        _drop_later_evidence(result, workers, folder)
    return result


def _watch(
    workers: Sequence[_Worker],
    spec: RunSpec,
    result: RunResult,
    started: float,
    progress: Callable[[Progress], None] | None,
    stop: Callable[[], int] | None,
) -> None:
    """Listen to the workers until all are over."""
    stop_sent = 0.0
    while True:
        alive = [worker for worker in workers if not worker.is_over]
        if not alive:
            return
        ready = wait([worker.connection for worker in alive], POLL_SECONDS)
        for worker in alive:
            if worker.connection in ready:
                worker.receive()
        now = time.monotonic()
        for worker in alive:
            limit = spec.stall_seconds if worker.is_started else max(spec.stall_seconds, START_SECONDS)
            if not worker.is_over and now - worker.changed > limit:
                worker.kill_stuck(limit)
        wanted = stop() if stop is not None else 0
        if wanted:
            result.is_stopped = True
            if wanted > 1 or (stop_sent and now - stop_sent > GRACE_SECONDS):
                for worker in alive:
                    worker.is_over = True
            elif not stop_sent:
                stop_sent = now
                for worker in alive:
                    worker.stop()
        if _must_stop_others(workers, spec) and not stop_sent:
            stop_sent = now
            for worker in alive:
                worker.stop()
        if progress is not None:
            progress(_progress(workers, started, bool(stop_sent)))


def _must_stop_others(workers: Sequence[_Worker], spec: RunSpec) -> bool:
    """Whether one worker's end is everybody's: bad input, or the first violation where that ends the run."""
    if any(worker.failure is not None for worker in workers):
        return True
    if not spec.stop_at_first:
        return False
    return any(worker.last is not None and not all(worker.last.fingerprints.values()) for worker in workers)


def _progress(workers: Sequence[_Worker], started: float, is_stopping: bool) -> Progress:
    total = Progress(seconds=time.monotonic() - started, phase="stopping" if is_stopping else "running")
    fingerprints: dict[str, bool] = {}
    for worker in workers:
        beat = worker.last
        if beat is not None:
            total.schedules += beat.schedules
            total.operations += beat.operations
            total.points += beat.points
            total.flushes += beat.flushes
            total.flushed_pages += beat.flushed_pages
            total.owed_pages += beat.owed_pages
            total.distinct_journals += beat.seen[0]
            total.unseen = min(total.unseen, beat.seen[1])
            fingerprints.update(beat.fingerprints)
    total.violations = len(fingerprints)
    total.unknown = sum(not known for known in fingerprints.values())
    return total


def _conclude(result: RunResult, workers: Sequence[_Worker], spec: RunSpec) -> None:
    """Merge the shares and say what the result is worth."""
    total = Tally()
    for worker in workers:
        if worker.failure is not None:
            if isinstance(worker.failure.error, ConfigError):
                raise worker.failure.error
            result.harness_error = f"{worker.failure.error}\n{worker.failure.trace}".rstrip()
        if worker.tally is not None:
            total.merge(worker.tally)
            if not worker.tally.died:
                result.inconclusive += [f"{how}; of its executions none did so again" for how in worker.replaced]
        if worker.stuck:
            result.inconclusive.append(worker.stuck)
        elif worker.died and not result.is_stopped:
            result.inconclusive.append(worker.died)
        elif worker.tally is None and result.is_stopped and worker.failure is None:
            result.inconclusive.append("a worker process was ended at once: what it ran is lost")
    result.schedules = total.schedules
    result.judged, result.flagged = total.judged, total.flagged
    result.allowed_races = dict(sorted(total.allowed.items()))
    result.operations = total.operations
    result.points = total.points
    result.metrics = figures(total.metrics)
    result.flushes = total.metrics.get("flush_calls", 0)
    result.windows = total.windows
    result.not_run = dict(sorted(total.not_run.items()))
    result.findings = sorted(
        total.findings.values(), key=lambda finding: (finding.known, finding.check, finding.fingerprint)
    )
    if total.first_gave_up is not None:
        result.inconclusive.append(
            f"{counted(total.gave_up, 'execution')} reached steps_max ({spec.scenario.steps_max}); "
            f"the first: {total.first_gave_up[1]}"
        )
    result.coverage = total.coverage.as_dict()
    result.repeated = total.repeated
    if total.not_alone:
        result.inconclusive.append(
            f"{counted(total.not_alone, 'execution')} ended a copy of the process and did not do so again: left out"
        )
    if total.first_diverged is not None:
        number, what = total.first_diverged
        result.inconclusive.append(
            f"{total.diverged} of {counted(total.repeated, 'schedule')} run twice did not give the same journal: "
            f"something but the schedule decides what happens; the first, execution {number}: {what}"
        )
    if total.dropped:
        result.inconclusive.append(
            f"{counted(total.dropped, 'violation')} came after {FINDINGS_MAX} distinct findings and were not kept"
        )
    if not result.harness_error:
        result.inconclusive.extend(has_substance(total))
    for name in spec.checks:
        if name in total.not_run:
            result.inconclusive.append(f"check {name} was asked for and could not run: {total.not_run[name]}")
    if spec.runtime == "threads":
        for name in spec.scenario.windows:
            if not total.windows.get(name, [0, 0])[1]:
                result.inconclusive.append(f"no foreign step ever fell into the window {name}: it was not tested")


def _drop_later_evidence(result: RunResult, workers: Sequence[_Worker], folder: Path) -> None:
    """Of a finding that several workers met, keep journal and schedule of the execution that the result names."""
    kept = {path for finding in result.findings for path in (finding.journal, finding.schedule)}
    for worker in workers:
        for finding in worker.tally.findings.values() if worker.tally is not None else ():
            for path in (finding.journal, finding.schedule):
                if path and path not in kept:
                    (folder / path).unlink(missing_ok=True)


def _innermost(stacks: str) -> str:
    """Where the main thread stands, by a faulthandler dump: its last part, the most recent call first."""
    frame = re.search(r'File "(.+)", line (\d+)', stacks.rpartition("hread 0x")[2])
    return f", {frame[1]}:{frame[2]}" if frame else ""


def _module_path() -> str:
    """Where this process finds its modules, for its workers: not wherever it happens to have been started."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


def _status(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
