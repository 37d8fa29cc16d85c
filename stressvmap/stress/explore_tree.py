# SPDX-License-Identifier: GPL-2.0-only
"""Exploring one program of a kernel tree: the search runs in the engine (shim/engine/search.c), which hands out one
execution of each class; that is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from stressvmap.errors import ConfigError, HarnessError
from stressvmap.sched.random import RandomStrategy
from stressvmap.stress import subject
from stressvmap.stress.execution import Execution
from stressvmap.stress.explore import COUNTS, Coverage, Explorer, ExploreSpec, Progress, Reckoner, Share
from stressvmap.tree.backend import TreeBackend, TreeRuntime
from stressvmap.tree.library import SEARCH_NEW, SEARCH_NEWS, SEARCH_OVER, SearchCounts
from stressvmap.tree.version import TreeVersion, is_tree

LOOK_UP_MS: Final = 50
"""From one look at `is_over` to the next; an execution is not broken off."""
BATCH: Final = 1 << 14
"""Executions from one look to the next, at most."""
LEARNED: Final = "learned"
EVERY_RUN: Final = (1 << 32) - 1
"""Screening is to flag a race in each run that has it, so that findings are counted."""


class SearchedRuntime(TreeRuntime):
    """Whose runs the engine's own search decides."""

    def __init__(self) -> None:
        super().__init__(RandomStrategy(0))
        self.contended: set[tuple[int, str]] = set()
        """How many facts the search has learned, as (number, LEARNED): the engine keeps them."""


class TreeExplorer:
    """What Explorer is for a model version."""

    def __init__(self, spec: ExploreSpec, contended: Sequence[tuple[int, str]] = ()) -> None:
        spec.validate()
        version = subject.load(spec.version)
        assert isinstance(version, TreeVersion)
        self.spec = spec
        self.scenario = spec.scenario
        self.version = version
        self.runtime = SearchedRuntime()
        self.runtime.contended.update(contended)
        self.backend = TreeBackend(version, spec.scenario, self.runtime)
        self.runtime.attach(self.backend.library)
        self.backend.screen.begin(race_reports=EVERY_RUN)
        self.reckoner = Reckoner(spec, self)
        self.digest = version.digest
        self._share = Share()
        self._counted = SearchCounts()
        self._learned: list[int] = []
        """By the searches of this process."""
        self._seen = b""
        """By the sitting before."""
        self._has_judged = False
        self.is_running = False

    def know(self, coverage: Coverage, seen: bytes) -> None:
        """What another sitting has seen is not new: classes, and states of the share that is left."""
        self.backend.library.search_know(sorted(coverage.classes))
        self._seen = seen

    def seen(self) -> bytes:
        """The states of the share at hand that need not be gone on with, for another sitting."""
        return self.backend.library.search_seen()

    def begin(self, share: Share) -> None:
        """Take on a share. Raises ConfigError if its decisions cannot be carried out."""
        self._share = share
        library = self.backend.library
        self.backend.reset(self.spec.program)
        bound = None if self.spec.preemptions is None else share.bound
        library.search_learn(share.learned or self._learned)
        library.search(bound, share.decisions)
        library.search_see(self._seen if share.decisions else b"")
        self._seen = b""
        self._counted = library.search_counts()

    def go_on(self, is_over: Callable[[int], bool], must_halt: Callable[[], bool]) -> Progress:
        """Explore until the share is, or `is_over` (asked with the executions run) or `must_halt` says so."""
        coverage = Coverage()
        library = self.backend.library
        has_more = True
        while has_more and not is_over(coverage.executions) and not must_halt():
            outcome = self._search(coverage.executions, is_over)
            if outcome == SEARCH_NEWS:
                library.search_know([])
                self._learned = library.search_learned()
                return Progress(Coverage(), None, contended={(len(self._learned), LEARNED)})
            self._count(coverage)
            if outcome == SEARCH_NEW:
                self._judge(coverage)
            has_more = outcome != SEARCH_OVER
        self._learned = library.search_learned()
        if not has_more:
            return Progress(coverage, None)
        rest = Share(bound=self._share.bound, decisions=library.search_stack(), learned=self._learned)
        return Progress(coverage, rest)

    def close(self) -> None:
        """Nothing that the process's end does not give back."""

    # -- inside -------------------------------------------------------------------------------------------

    def _search(self, executions: int, is_over: Callable[[int], bool]) -> int:
        batch = BATCH
        while batch > 1 and is_over(executions + batch):
            batch >>= 1
        self.is_running = True
        try:
            return self.backend.library.search_on(batch, LOOK_UP_MS)
        except HarnessError as error:
            if self._share.decisions:
                raise ConfigError(f"--state: its decisions do not fit this program: {error}") from None
            raise
        finally:
            self.is_running = False

    def _count(self, coverage: Coverage) -> None:
        """Add what came since it was done last: less than nothing, if the search has begun again by itself."""
        now, before = self.backend.library.search_counts(), self._counted
        self._counted = now
        for name in SearchCounts.NAMES:
            assert name in COUNTS
            setattr(coverage, name, getattr(coverage, name) + getattr(now, name) - getattr(before, name))
        if self.spec.preemptions is not None:
            bound = self._share.bound
            coverage.by_bound[bound] = coverage.by_bound.get(bound, 0) + now.complete - before.complete

    def _judge(self, coverage: Coverage) -> None:
        """The first of its class: by the checks, if screening says that they may have something to say. One is judged
        in any case, so that it is known which of them can run.
        """
        backend, library = self.backend, self.backend.library
        self.runtime.begin()
        backend.reason = library.search_reason()
        coverage.operations += backend.operations
        is_flagged = backend.flags != 0
        coverage.classes.add(library.search_class())
        if not is_flagged and self._has_judged:
            return
        self._has_judged = True
        coverage.judged += 1
        journal = backend.journal(execution=coverage.executions)
        schedule = self.runtime.schedule
        done = Execution(backend.reason, journal, schedule, library.points(), backend.operations)
        self.reckoner.take(coverage, done)


def explorer_of(spec: ExploreSpec, contended: Sequence[tuple[int, str]] = ()) -> Explorer | TreeExplorer:
    """Who explores a version of that kind. Raises ConfigError, PatchError, BuildError."""
    return TreeExplorer(spec, contended) if is_tree(spec.version) else Explorer(spec, contended)
