# SPDX-License-Identifier: GPL-2.0-only
"""A whole exploration: its shares, handed out to one or several processes, and what they come to.

A bounded search falls into shares by the alternatives to its first execution; they have nothing to do with each other.
Source-DPOR does not: a race found in one share may ask for a task to be run at a decision that many shares lead
through. Those decisions, the *junctions*, are kept here. A share explores all that lies deeper, and brings back what it
asks of them; a task that nobody ran there yet is a new share, in which those handed out before sleep. Answers are taken
in the order of the questions, so the shares, and all counts, do not depend on which process was faster. By the sleep
sets no trace is completed in two shares: the number of complete executions is that of one process; only how many are
cut may differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from stressvmap.errors import ConfigError
from stressvmap.quantity import counted
from stressvmap.result import RunResult
from stressvmap.sched.search import Decision
from stressvmap.stress.campaign_state import CampaignState, Junction, read_state, write_state
from stressvmap.stress.explore import BOUNDED, DPOR, Coverage, ExploreSpec, Progress, Share
from stressvmap.stress.explore_jobs import Crew
from stressvmap.stress.explore_tree import TreeExplorer, explorer_of
from stressvmap.stress.watchdog import STALL_SECONDS

SLICE_SECONDS = 1.0
SAVE_SECONDS = 5.0
BASE_SHARE = 4
"""The decisions kept here reach to this part of the first execution's depth: deeper means more and smaller shares, each
of which has to find its footprints again.
"""


class Campaign:
    """Explores `spec` until it is complete, or a budget is used up, or it is told to stop. `state` says how far it is.

    `on_progress` is called about once a second.
    """

    def __init__(
        self,
        spec: ExploreSpec,
        *,
        jobs: int = 1,
        state_path: Path | None = None,
        stall_seconds: float = STALL_SECONDS,
        should_stop: Callable[[], int] = lambda: 0,
        on_progress: Callable[[CampaignState], None] = lambda state: None,
    ) -> None:
        self.spec = spec
        self.jobs = jobs
        self.state_path = state_path
        self.stall_seconds = stall_seconds
        """Several processes: how long one may make no step. One process is watched by whoever runs it."""
        self.should_stop = should_stop
        self.on_progress = on_progress
        self.explorer = explorer_of(spec)
        if isinstance(self.explorer, TreeExplorer) and jobs > 1:
            raise ConfigError(f"--jobs {jobs}: a tree is explored by one process, which knows what was seen")
        saved = read_state(state_path, spec, self.explorer.digest) if state_path is not None else None
        self.is_resumed = saved is not None
        self.state = saved or CampaignState()
        self.explorer.runtime.contended.update(self.state.contended)
        self.explorer.know(self.state.coverage, self.state.seen)
        self._is_begun = False
        """A share was: what the explorer has seen is of this sitting."""
        self.is_stopped = False
        """By the user."""
        self._deadline = float("inf")
        self._executions_max = 1 << 62
        self._began = time.monotonic()
        self._seconds_before = self.state.seconds
        self._saved_at = self._began
        self._save_cost = 0.0

    def run(self, *, seconds: float | None = None, schedules: int | None = None) -> None:
        """Explore. `schedules` counts the executions of all sittings, `seconds` is of this one."""
        self._began = self._saved_at = time.monotonic()
        if seconds is not None:
            self._deadline = self._began + seconds
        if schedules is not None:
            self._executions_max = schedules
        self.save()  # a state that cannot be written is told at once, not when there is something to lose
        try:
            if self.jobs == 1:
                self._run_alone()
            else:
                with Crew(self.spec, self.jobs, self.stall_seconds) as crew:
                    self._run_with(crew)
        finally:
            self.explorer.close()
            self.save()

    def save(self) -> None:
        """Write the state file, if there is to be one."""
        now = time.monotonic()
        self.state.seconds = self._seconds_before + now - self._began
        if self.state_path is not None:
            self.state.seen = self.explorer.seen() if self._is_begun else self.state.seen
            write_state(self.state, self.spec, self.explorer.digest, self.state_path)
        self._saved_at = time.monotonic()
        self._save_cost = self._saved_at - now

    def result(self) -> RunResult:
        """The exploration as a run's result."""
        state, spec = self.state, self.spec
        coverage = state.coverage
        is_bounded = spec.preemptions is not None
        result = RunResult(
            command="explore",
            version=self.explorer.version.NAME,
            version_digest=self.explorer.digest,
            version_spec=spec.version,
            runtime="controlled",
            strategy=spec.mode if not is_bounded else f"{spec.mode}={spec.preemptions}",
            seed=0,
            scenario=asdict(spec.scenario),
            seconds=state.seconds,
            schedules=coverage.executions,
            operations=coverage.operations,
            points=coverage.points,
            flushes=coverage.flush_calls,
            findings=list(coverage.findings.values()),
            not_run=dict(sorted(coverage.not_run.items())),
            is_stopped=self.is_stopped,
            declared=[
                {"check": k.check, "fingerprint": k.fingerprint, "frequency": k.frequency, "title": k.title}
                for k in self.explorer.version.known
            ],
        )
        result.coverage = {
            "is_complete": int(self.is_complete),
            "complete_executions": coverage.complete,
            "cut_executions": coverage.cut,
            "deadlocks": coverage.deadlocks,
            "classes": coverage.complete if spec.mode == DPOR else len(coverage.classes),
            **self._of_a_tree(),
            **{f"preemptions_{bound}": count for bound, count in sorted(coverage.by_bound.items())},
        }
        result.metrics = {"flush_calls": coverage.flush_calls, "unmap_aliases_calls": coverage.aliases_calls}
        result.allowed_races = dict(sorted(coverage.allowed.items()))
        result.inconclusive = self._reservations()
        return result

    def _of_a_tree(self) -> dict[str, int]:
        coverage = self.state.coverage
        if not isinstance(self.explorer, TreeExplorer):
            return {}
        return {"states": coverage.states, "judged": coverage.judged}

    @property
    def is_complete(self) -> bool:
        """Everything within the bounds was explored."""
        return self.state.is_complete and not self.state.coverage.gave_up

    def _reservations(self) -> list[str]:
        coverage, state = self.state.coverage, self.state
        reasons = []
        if coverage.gave_up:
            gave_up = counted(coverage.gave_up, "execution")
            reasons.append(f"{gave_up} reached steps_max ({self.spec.scenario.steps_max})")
        if not state.is_complete and not self.is_stopped:
            reasons.append("a budget ended it before everything was explored")
        if not coverage.flush_calls and state.is_complete:
            reasons.append("no flush was made, so nothing was ever mapped and unmapped: nothing was checked")
        reasons += [
            f"check {name} was asked for and could not run: {coverage.not_run[name]}"
            for name in self.spec.checks
            if name in coverage.not_run
        ]
        return reasons

    # -- one process --------------------------------------------------------------------------------------

    def _run_alone(self) -> None:
        state, explorer = self.state, self.explorer
        while self._more():
            share = state.pending[0]
            explorer.begin(share)
            self._is_begun = True
            while True:
                progress = explorer.go_on(self._slice(), self._must_halt)
                self._take(state.pending.pop(0), progress)
                if progress.rest is None or progress.contended:
                    break
                state.pending.insert(0, progress.rest)
                self._tick()
                if self._is_over():
                    return

    def _slice(self) -> Callable[[int], bool]:
        """Says when it is time to look up from a share."""
        end = min(time.monotonic() + SLICE_SECONDS, self._deadline)
        most = self._executions_max - self.state.coverage.executions
        return lambda executions: executions >= most or time.monotonic() >= end or self.should_stop() > 0

    def _must_halt(self) -> bool:
        return self.should_stop() > 0 or time.monotonic() >= self._deadline

    # -- several ------------------------------------------------------------------------------------------

    def _run_with(self, crew: Crew) -> None:
        """Shares go out in their order, and answers are taken in that order, too."""
        state = self.state
        out: dict[int, Share] = {}
        answers: dict[int, Progress] = {}
        asked = taken = 0
        while out or self._more():
            is_over = self._is_over()
            if is_over:
                crew.stop()
            while state.pending and crew.has_idle() and not is_over:
                share = state.pending.pop(0)
                left = self._executions_max - state.coverage.executions
                crew.send(asked, share, state.contended, min(self._deadline, time.monotonic() + 1e9), left)
                out[asked] = share
                asked += 1
            for number, progress in crew.answers(SLICE_SECONDS):
                answers[number] = progress
            while taken in answers:
                progress = answers.pop(taken)
                share = out.pop(taken)
                taken += 1
                if progress.contended:
                    crew.forget()
                    out.clear()
                    answers.clear()
                    taken = asked
                self._take(share, progress)
                if progress.rest is not None:
                    state.pending.insert(0, progress.rest)
            self._tick([*out.values()])
            if is_over and not out:
                return

    # -- both ---------------------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        if self.should_stop():
            self.is_stopped = True
        return (
            self.is_stopped
            or time.monotonic() >= self._deadline
            or self.state.coverage.executions >= self._executions_max
        )

    def _more(self) -> bool:
        """Whether something is to be done; makes the shares of the next bound when those of one are."""
        state = self.state
        if state.is_complete or self._is_over():
            return False
        if state.pending:
            return True
        if state.is_started:
            if self.spec.preemptions is None or state.bound >= self.spec.preemptions:
                state.is_complete = True
                return False
            state.bound += 1
        state.is_started = True
        state.pending = self._first_shares()
        return bool(state.pending) or self._more()

    def _first_shares(self) -> list[Share]:
        state = self.state
        if self.jobs == 1 or isinstance(self.explorer, TreeExplorer):
            return [Share(bound=state.bound)]
        if self.spec.mode == BOUNDED:
            coverage, shares = self.explorer.split(state.bound)
            state.coverage.add(coverage)
        else:
            shares = [Share(base=self.explorer.first_length() // BASE_SHARE)]
        state.contended |= self.explorer.runtime.contended
        return shares

    def _take(self, share: Share, progress: Progress) -> None:
        state = self.state
        if progress.contended:
            state.contended |= progress.contended
            self.explorer.runtime.contended.update(state.contended)
            state.pending, state.junctions, state.coverage = [], {}, Coverage()
            state.bound, state.is_started = 0, False
            return
        state.coverage.add(progress.coverage)
        if share.base and self.spec.mode != BOUNDED:
            self._join(share.base, progress)

    def _join(self, base: int, progress: Progress) -> None:
        """Bring to the junctions what a share asks of them."""
        state = self.state
        way = tuple(chosen for chosen, _, _ in progress.path)
        for depth, (chosen, enabled, asleep) in enumerate(progress.path):
            if way[:depth] not in state.junctions:
                state.junctions[way[:depth]] = Junction(enabled, frozenset(asleep), [chosen])
        for depth, initials, task in progress.requests:
            junction = state.junctions[way[:depth]]
            if any(initial in junction.asked or initial in junction.asleep for initial in initials):
                continue
            chosen = task if task in initials else initials[0]
            stack = [self._decision(way[:above], way[above]) for above in range(depth)]
            junction.asked.append(chosen)
            stack.append(self._decision(way[:depth], chosen))
            state.pending.append(Share(stack, base))

    def _decision(self, way: tuple[int, ...], chosen: int) -> Decision:
        asked = self.state.junctions[way].asked
        return Decision(chosen, done=asked[: asked.index(chosen)], backtrack=list(asked))

    def _tick(self, out: list[Share] | None = None) -> None:
        """Tell how far it is, and save that now and then: what is out counts as not done."""
        now = time.monotonic()
        self.state.seconds = self._seconds_before + now - self._began
        self.on_progress(self.state)
        if self.state_path is not None and now - self._saved_at >= max(SAVE_SECONDS, 20 * self._save_cost):
            pending = self.state.pending
            self.state.pending = [*(out or []), *pending]
            self.save()
            self.state.pending = pending
