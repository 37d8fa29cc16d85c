# SPDX-License-Identifier: GPL-2.0-only
"""What a check is, what it returns, and the loop that feeds a journal to many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from stressvmap.journal.events import KIND_NAMES, Event, stream_of
from stressvmap.journal.journal import Journal
from stressvmap.ranges import PageRange
from stressvmap.result import fingerprint_of

Handler = Callable[[int, Event], None]
"""Called with an event's number and the event."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """How an invariant broke, in terms that survive another seed, patch and backend; digested to the fingerprint.

    No addresses, counts, task or CPU numbers, static function names.
    """

    check: str
    calls: tuple[str, ...]
    """API entry points involved, in the order of the story."""
    role: str
    """Role of the object: "fully used block", "block on the free list", "dead block", "lazy area", ..."""
    mechanism: str
    """"never visited", "visited and skipped", "widened but not flushed", ..."""
    locks: tuple[str, ...] = ()
    """Lock classes held at the decisive step, sorted."""
    coarse: bool = False
    """The journal carried only the ground stream, so role and mechanism are what that can tell."""

    def text(self) -> str:
        """The canonical text: what the fingerprint digests and a reader can compare."""
        held = "holding " + (", ".join(self.locks) or "nothing")
        parts = [self.check, " + ".join(self.calls), self.role, self.mechanism, held]
        return " | ".join(parts) + (" | ground only" if self.coarse else "")

    def fingerprint(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the canonical text."""
        return fingerprint_of(self.text())


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where an invariant did not hold."""

    check: str
    mechanism: Mechanism
    message: str
    """The story in the order it happened: who, where, when (event number), what should have been. Several lines."""
    at: int
    """Number of the event at which it was certain."""
    steps: tuple[int, ...] = ()
    """Numbers of the events the story tells, ascending."""
    pages: PageRange | None = None

    @property
    def fingerprint(self) -> str:
        """The mechanism's digest."""
        return self.mechanism.fingerprint()


class Check:
    """One invariant. Subclasses state it as a sentence a reviewer can dispute, and say why their state is bounded."""

    NAME: ClassVar[str] = ""
    NEEDS: ClassVar[frozenset[int]] = frozenset()
    """Event kinds without which the check can say nothing; their streams must be carried or it is not run."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def begin(self, journal: Journal) -> None:
        """A new execution starts: forget the last one (not the violations found so far)."""

    def handlers(self) -> dict[int, Handler]:
        """The handler of each event kind it listens to."""
        raise NotImplementedError

    def finish(self) -> None:
        """The execution's events are over."""

    def cannot_run_on(self, journal: Journal) -> str:
        """Why this check cannot run on `journal`; empty if it can."""
        missing = sorted({stream_of(kind) for kind in self.NEEDS} - journal.streams)
        if not missing:
            return ""
        kinds = sorted(KIND_NAMES[kind] for kind in self.NEEDS if stream_of(kind) in missing)
        return f"the journal carries no {' and no '.join(missing)} stream (needs {', '.join(kinds)})"


@dataclass(slots=True)
class Verdict:
    """What feeding one journal gave: the violations, and the checks that could not run with the reason."""

    violations: list[Violation] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)


class Feeder:
    """Feeds one journal to observers, in their order for each event (derived state comes first), also while it grows.

    An observer that reads ahead in `begin` (the State of a journal without operations) needs it whole.
    """

    def __init__(self, journal: Journal, observers: Sequence[Check]) -> None:
        self._events = journal.events
        self._observers = observers
        self._table: dict[int, list[Handler]] = {}
        self._fed = 0
        for observer in observers:
            observer.begin(journal)
            for kind, handler in observer.handlers().items():
                self._table.setdefault(kind, []).append(handler)

    def feed(self) -> None:
        """Feed the events that came since the last time."""
        empty: list[Handler] = []
        get = self._table.get
        new = self._events[self._fed :] if self._fed else self._events
        for number, event in enumerate(new, self._fed):
            for handler in get(event[0], empty):
                handler(number, event)
        self._fed = len(self._events)

    def finish(self) -> None:
        """The execution is over."""
        for observer in self._observers:
            observer.finish()


def feed(journal: Journal, observers: Sequence[Check]) -> None:
    """Feed the whole journal to `observers`."""
    feeder = Feeder(journal, observers)
    feeder.feed()
    feeder.finish()


def run_checks(journal: Journal, state: Check, checks: Iterable[Check], observers: Iterable[Check] = ()) -> Verdict:
    """Run those of `checks` and `observers` that can run on `journal`, after the derived `state` they share.

    The violations found are handed over: the checks keep none, so that they serve any number of executions.
    """
    verdict = Verdict()
    able: list[Check] = []
    for check in checks:
        reason = check.cannot_run_on(journal)
        if reason:
            verdict.not_run[check.NAME] = reason
        else:
            able.append(check)
    feed(journal, [state, *able, *(observer for observer in observers if not observer.cannot_run_on(journal))])
    for check in able:
        verdict.violations.extend(check.violations)
        check.violations.clear()
    verdict.violations.sort(key=lambda violation: violation.at)
    return verdict
