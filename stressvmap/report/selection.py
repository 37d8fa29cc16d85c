# SPDX-License-Identifier: GPL-2.0-only
"""Which steps of an execution a story tells: those the violation names, and those they hang on.

A violation's own steps come first (`steps`, `at`). To them come, in the same API calls, the changes of the blocks,
areas and pages concerned; what a vm_unmap_aliases made of these blocks; how whoever touched a dead object came by it;
the single stores of a change of a corrupt list; and the locks held across what another CPU did. Where the violation
names the steps of one task only, the calls that it was not serialisable with are told as well: those with a
dependence (checks/order.py) both from and to it. Of all that, only what the violation's own steps depend on by
happens-before is told, and what came too late; everything else is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from stressvmap.checks.base import Violation
from stressvmap.checks.order import OWING, Order
from stressvmap.checks.world import ALIASES
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.journal import Journal
from stressvmap.journal.place import callers, places
from stressvmap.ranges import PageRange
from stressvmap.report.frames import Frame, Frames
from stressvmap.report.symbols import BLOCK, MAPPING, Objects, Symbols
from stressvmap.report.wording import COUNTS, Wording

BLOCKS_MAX: Final = 3
ALWAYS: Final = 3
CHANGE: Final = 2
DETAIL: Final = 1
CLEANUP: Final = "cleanup"

_WRITES: Final = frozenset({ev.WRITE, ev.WRITE_ONCE})
_ACCESSES: Final = frozenset({ev.READ, ev.READ_ONCE, *_WRITES})
OWED: Final = frozenset({"stale-after-unmap-aliases", "stale-access"})
CORRUPT: Final = "list-corruption"
COUNTED: Final = "counts"
LISTED: Final = "lists"
INDEXED: Final = "index"
FREED: Final = "memory"
CLEARED: Final = "pages"
WALKED: Final = "walk"
FAILED: Final = "failed"
_TOPICS: Final = {
    CORRUPT: frozenset({COUNTED, LISTED}),
    "use-after-free": frozenset({COUNTED, LISTED, INDEXED, FREED}),
    "stale-after-unmap-aliases": frozenset({COUNTED, LISTED, INDEXED, CLEARED, WALKED}),
    "stale-access": frozenset({COUNTED, LISTED, INDEXED, CLEARED, WALKED}),
    "reuse-before-flush": frozenset({INDEXED, CLEARED}),
    "accounting": frozenset({COUNTED, LISTED}),
    "kernel-bug": frozenset({FAILED}),
}
"""What else a check's story is about than the steps it names itself."""

_UNMAPS: Final = frozenset({ev.UNMAP_BEGIN, ev.UNMAP_END, ev.PTE_CLEAR, ev.API_END})
_LIST_KINDS: Final = frozenset({ev.LIST_ADD, ev.LIST_DEL, ev.LIST_CORRUPT})
_WITHIN_LIST: Final = frozenset({ev.LIST_CORRUPT, ev.RELEASE})
"""What may come between the loads and stores of one change of a list."""
_NO_STEPS: Final = frozenset({ev.OBJECT_ALLOC, ev.STOPPED, ev.API_BEGIN})
_LOCKS_TOLD: Final = frozenset({"vb->lock", "vbq->lock", "vmap_purge_lock"})
LAZY_LOCKS: Final = frozenset({"purge_vmap_area_lock", "vn->lazy.lock"})


def is_link(event: Event) -> bool:
    """Whether it loads or stores a list pointer."""
    return event[0] in _ACCESSES and str(event[5]).endswith((".next", ".prev"))


class Step:
    """One line of a story."""

    __slots__ = ("frame", "indent", "number", "pair", "rank", "task", "text")

    def __init__(self, number: int, task: int, text: str, rank: int, frame: Frame | None, indent: int = 0) -> None:
        self.number = number
        self.task = task
        self.text = text
        self.rank = rank
        self.frame = frame
        self.indent = indent
        """Levels below its frame."""
        self.pair = number
        """Of a lock its unlock, and the other way round: both are told, or none."""


class Selection:
    """The steps of one violation's story, in order, and the names they use."""

    def __init__(self, journal: Journal, violation: Violation, blocks: Collection[int] | None = None) -> None:
        """`blocks`: tell of no others than these."""
        self.events = journal.events
        self.violation = violation
        self.bits = int(journal.header.get("block_bits", 0))
        self.objects = Objects(journal)
        self.frames = Frames(self.events, callers(journal))
        self.end = min(violation.at, len(self.events) - 1)
        numbers = sorted({*violation.steps, violation.at})
        self.seeds = [number for number in numbers if number <= self.end and self._is_step(number)]
        self.calls = self._by_begin()
        self.topics = _TOPICS.get(violation.check, frozenset())
        self.debt = violation.pages
        """The pages to tell of: where several unmappings are owed, those of the first."""
        self.likewise = self._keep_to_one_debt()
        self.blocks = self._blocks()
        if len({call.task for call in self.calls}) == 1:
            self._add_rivals()
        if blocks is not None:
            self.blocks = [block for block in self.blocks if block in blocks]
        self.symbols = Symbols(self.objects, self.bits, self.blocks)
        self.wording = Wording(self.events, self.symbols)
        self.steps: dict[int, Step] = {}
        """By number."""
        self._select()

    def ordered(self) -> list[Step]:
        """The steps as they happened."""
        return sorted(self.steps.values(), key=lambda step: step.number)

    # -- what it is about ---------------------------------------------------------------------------------

    def _keep_to_one_debt(self) -> list[Frame]:
        """Of several unmappings that are owed, the first and its block are told. Takes out the others, and returns
        those of the same task: they are named in one line.
        """
        debts = [call for call in self._by_begin() if self._is_about_pages(call) and not self._is_decisive(call)]
        if self.violation.check not in OWED or not debts:
            return []
        told = debts[0]
        start, end = told.event[4], told.event[4] + told.event[6]
        self.debt = PageRange(start, end)
        self.seeds = [seed for seed in self.seeds if not self._is_about_other_block(seed, start)]
        others = [call for call in self._by_begin() if self._is_about_pages(call) and not self._is_decisive(call)]
        others.remove(told)
        self.seeds = [seed for seed in self.seeds if self._call_of(seed) not in others]
        self.calls = self._by_begin()
        return [call for call in others if call.task == told.task]

    def _by_begin(self) -> list[Frame]:
        calls = {call for seed in self.seeds if (call := self._call_of(seed)) is not None}
        return sorted(calls, key=lambda call: call.begin)

    def _call_of(self, number: int) -> Frame | None:
        frame = self.frames.of[number]
        return None if frame is None else frame.outermost()

    def _is_decisive(self, call: Frame) -> bool:
        """Whether the violation names steps of it beyond the unmapping itself: a block's last, say."""
        return any(self._call_of(seed) is call and self.events[seed][0] not in _UNMAPS for seed in self.seeds)

    def _is_about_other_block(self, number: int, page: int) -> bool:
        name = self.events[number][4]
        block = self.objects.block_of.get(name, name)
        if self.events[number][0] >= ev.WORK_QUEUE or self.objects.classes.get(block) != BLOCK:
            return False
        return not self.objects.start(block) <= page < self.objects.start(block) + self.bits

    def _function(self, number: int) -> str:
        frame = self.frames.of[number]
        return "" if frame is None else frame.name

    def _is_in(self, number: int, function: str) -> bool:
        """Whether an event was made in a kernel function, or in what that was inlined into."""
        return any(place.function == function for place in places(self.events[number][3]))

    def _is_step(self, number: int) -> bool:
        event = self.events[number]
        return event[0] not in _NO_STEPS and ev.stream_of(event[0]) != ev.AUDIT

    def _blocks(self) -> list[int]:
        """The blocks concerned: under the pages, and those that the steps touch, or whose area they touch."""
        found: dict[int, None] = {}
        for seed in self.seeds:
            event = self.events[seed]
            if event[0] < ev.XA_LOAD:
                changed = self._change_of_list(seed)
                node = self.events[changed][4] if changed >= 0 else 0
                for name in (event[4], event[6] if event[0] == ev.LIST_CORRUPT else 0, node):
                    block = self.objects.block_of.get(name, name)
                    if self.objects.classes.get(block) == BLOCK:
                        found[block] = None
        pages = self.debt
        if pages is not None and self.topics and self.bits and pages.end - pages.start <= self.bits * BLOCKS_MAX:
            for block in self.objects.blocks_of(pages, self.bits, self.end)[-BLOCKS_MAX:]:
                found[block] = None
        return list(found)

    def _add_rivals(self) -> None:
        """The calls that this story's one call is in a circle of dependences with, and the blocks at the ends."""
        first = min(call.begin for call in self.calls)
        under_way = {frame.outermost() for frame in self.frames.of[first : self.end + 1] if frame is not None}
        start = min(call.begin for call in under_way)
        ours = set(self.calls)
        into: dict[Frame, set[int]] = {}
        out: dict[Frame, set[int]] = {}
        for number, those in enumerate(Order(self.events[start : self.end + 1]).before, start):
            for earlier in those:
                ends = (earlier + start, number)
                calls = [frame.outermost() for end in ends if (frame := self._accessing(end)) is not None]
                if len(calls) < 2 or calls[0].task == calls[1].task:
                    continue
                if calls[1] in ours:
                    into.setdefault(calls[0], set()).update(ends)
                elif calls[0] in ours:
                    out.setdefault(calls[1], set()).update(ends)
        for rival in [call for call in into if call in out]:
            self.calls.append(rival)
            ends_of_edges = into[rival] | out[rival]
            changes = {self._change_of_list(number) for number in ends_of_edges} - {-1}
            touched = {self.events[number][4] for number in ends_of_edges | changes}
            self.blocks += [
                block
                for block in sorted(touched)
                if self.objects.classes.get(block) == BLOCK and block not in self.blocks
            ]

    def _accessing(self, number: int) -> Frame | None:
        """The frame of an access to a field; of a list's links alone, where the list is corrupt."""
        event = self.events[number]
        is_told = is_link(event) if self.violation.check == CORRUPT else event[0] in _ACCESSES
        return self.frames.of[number] if is_told else None

    # -- selecting ----------------------------------------------------------------------------------------

    def _add(self, number: int, text: str, rank: int, indent: int = 0) -> None:
        if self.events[number][0] == ev.UNMAP_BEGIN:
            number = self._cleared_at(number)
        old = self.steps.get(number)
        if text and (old is None or old.rank < rank):
            self.steps[number] = Step(number, self.events[number][1], text, rank, self.frames.of[number], indent)

    def _cleared_at(self, begin: int) -> int:
        """Where to tell of an unmapping: where it begins, or at its first PTE if another call of this story came in
        between, for which it makes a difference.
        """
        task = self.events[begin][1]
        is_interrupted = False
        for number in range(begin + 1, len(self.events)):
            event = self.events[number]
            if event[1] == task:
                if event[0] == ev.PTE_CLEAR and is_interrupted:
                    return number
                if event[0] in _UNMAPS:
                    break
            elif not is_interrupted:
                frame = self.frames.of[number]
                is_interrupted = frame is not None and frame.outermost() in self.calls
        return begin

    def _in_calls(self) -> Iterator[tuple[int, Event]]:
        """The events of this story's calls, in order."""
        calls = set(self.calls)
        first = min((call.begin for call in calls), default=0)
        last = max((call.end for call in calls), default=-1)
        for number in range(first, last + 1):
            frame = self.frames.of[number]
            if frame is not None and frame.outermost() in calls:
                yield number, self.events[number]

    def _select(self) -> None:
        in_order = sorted(self.calls, key=lambda call: call.begin)  # rivals came later
        for call in [*filter(self._is_about_pages, in_order), *in_order]:  # A is what it is about
            self.title(call)
        for call in self.calls:
            if call.name in OWING and WALKED in self.topics:
                self._tell_walk(call)
        for number, event in list(self._in_calls()):
            self._change(number, event)
        for seed in self.seeds:
            event = self.events[seed]
            if event[0] == ev.DEAD_ACCESS:
                self._tell_touch(seed)
            elif self._change_of_list(seed) >= 0:
                self._tell_list(self._change_of_list(seed), ALWAYS)
                if event[0] == ev.LIST_CORRUPT:
                    self._add(seed, self.wording.step(seed), ALWAYS, indent=1)
            elif event[0] == ev.PTE_CLEAR:
                cleared = self._before(seed, ev.UNMAP_BEGIN)
                self._add(cleared, self.wording.step(cleared), ALWAYS)
            elif event[0] == ev.FLUSH_BEGIN:
                flushed = self._before(seed, ev.FLUSH_ARGS)
                self._add(flushed, self._flush_text(flushed), ALWAYS)
            else:
                self._add(seed, self._seed_text(seed), ALWAYS)
                if event[0] == ev.MIGHT_SLEEP:
                    self._tell_reader(seed)
        self._leave_out_what_nothing_depends_on()
        self._tell_locks()
        self._tell_repetitions()

    def _leave_out_what_nothing_depends_on(self) -> None:
        """Of what came before the violation's last step, keep what one of its steps depends on by happens-before. What
        an audit saw depends on all there was.
        """
        if not self.seeds or not self._is_step(self.end):
            return
        start = min([*self.steps, *self.seeds])
        order = Order(self.events[start : self.end + 1])
        past = {number + start for seed in self.seeds for number in order.past_of(seed - start)}
        for number, step in list(self.steps.items()):
            if step.rank < ALWAYS and number < self.seeds[-1] and number not in past:
                del self.steps[number]

    def _tell_repetitions(self) -> None:
        if self.likewise:
            first = self.likewise[0]
            names = ", ".join(self.title(call) for call in self.likewise)
            self.steps[first.begin] = Step(first.begin, first.task, f"{names}: likewise", CHANGE, None)

    def _is_about_pages(self, call: Frame) -> bool:
        pages, start, end = self.violation.pages, call.event[4], call.event[4] + call.event[6]
        is_call = call.event[0] == ev.API_BEGIN and call.name not in MAPPING
        return pages is not None and is_call and start < pages.end and pages.start < end

    def title(self, call: Frame) -> str:
        """A call as its caller wrote it."""
        if not call.is_call or call.event[0] != ev.API_BEGIN:
            return call.name
        if call.name in MAPPING:
            end = self.events[call.end] if call.end > call.begin else None
            return self.wording.mapping(call.event, end if end is not None and end[0] == ev.API_END else None)
        return self.wording.call(call.event)

    def _seed_text(self, number: int) -> str:
        event = self.events[number]
        text = self.wording.step(number)
        pages = self.violation.pages
        if event[0] == ev.API_END and event[5] in OWING:
            flushes = [other for at, other in self._events_of(self.frames.of[number]) if other[0] == ev.FLUSH_ARGS]
            return text if flushes else f"{text}, nothing flushed"
        if event[0] == ev.API_END and event[4] and pages is not None and "aliases" in self.violation.check:
            if event[4] < pages.end and pages.start < event[4] + event[6]:
                return f"{text}   /* {self.symbols.range(event[4], event[6])} is owed now */"
        return text

    def _before(self, number: int, kind: int) -> int:
        """The task's last event of a kind up to event `number`; that one itself if there is none."""
        task = self.events[number][1]
        for earlier in range(number, -1, -1):
            if self.events[earlier][1] == task and self.events[earlier][0] == kind:
                return earlier
        return number

    def _events_of(self, call: Frame | None) -> Iterator[tuple[int, Event]]:
        if call is None:
            return
        outermost = call.outermost()
        for number in range(outermost.begin, min(outermost.end, self.end) + 1):
            if self.events[number][1] == outermost.task:
                yield number, self.events[number]

    def _change(self, number: int, event: Event) -> None:
        """A step that changes something concerned. Of what comes after the violation, only that which came too late."""
        kind, name, value = event[0], event[4], event[6]
        area = self.objects.block_of.get(name)
        topic = ""
        if number > self.end:
            is_late = area in self.blocks and kind == ev.TREE_INSERT and event[5] == "lazy"
            topic = INDEXED if is_late and WALKED in self.topics else ""
        elif kind in _WRITES:
            if name in self.blocks and event[5] in COUNTS and not self._is_in(number, "new_vmap_block"):
                topic = COUNTED
        elif kind in (ev.LIST_ADD, ev.LIST_DEL):
            if event[5] == "free_list" and name in self.blocks and LISTED in self.topics:
                self._tell_list(number, CHANGE)
        elif kind in (ev.XA_STORE, ev.XA_ERASE):
            topic = INDEXED if value in self.blocks else ""
        elif kind in (ev.TREE_INSERT, ev.TREE_ERASE):
            topic = INDEXED if area in self.blocks and event[5] == "lazy" else ""
        elif kind in (ev.KFREE_RCU, ev.OBJECT_FREE):
            topic = FREED if name in self.blocks or area in self.blocks else ""
        elif kind == ev.ALLOC_FAILED:
            topic = FAILED
        elif kind == ev.UNMAP_BEGIN:
            topic = CLEARED if self.violation.check in OWED or self._is_concerned(name, value) else ""
        elif kind == ev.FLUSH_ARGS and self.violation.pages is not None and CLEARED in self.topics:
            self._add(number, self._flush_text(number), CHANGE)
        if topic in self.topics:
            self._add(number, self.wording.step(number), CHANGE)

    def _is_concerned(self, start: int, end: int) -> bool:
        pages = self.violation.pages
        return start < end and (pages is None or (start < pages.end and pages.start < end))

    def _flush_text(self, number: int) -> str:
        event = self.events[number]
        pages = self.violation.pages
        text = self.wording.step(number)
        missed = [] if pages is None else self.symbols.known_in(pages.start, pages.end)
        if missed and not self._is_concerned(event[4], event[6]):
            return f"{text}   /* not {missed[0]} */"
        return text

    # -- what needs more than one event ---------------------------------------------------------------------

    def _tell_walk(self, call: Frame) -> None:
        """What a call that owes made of the blocks concerned, and of the lazy list."""
        walked = -1
        for number, event in self._events_of(call):
            is_list_step = event[0] == ev.READ_ONCE and str(event[5]).endswith(".next")
            if self._function(number).lstrip("_") == ALIASES and (event[0] == ev.XA_LOAD or is_list_step):
                walked = number
            if event[0] == ev.LOCK and event[5] in LAZY_LOCKS and self._function(number).startswith("__purge"):
                self._tell_lazy(number)
        for block in self.blocks:
            self._tell_visit(call, block, walked)

    def _tell_lazy(self, locked: int) -> None:
        task = self.events[locked][1]
        for number in range(locked + 1, self.end + 1):
            event = self.events[number]
            if event[1] == task:
                if event[0] == ev.UNLOCK:
                    self._add(locked, "the lazy list is empty", CHANGE)
                return

    def _tell_visit(self, call: Frame, block: int, walked: int) -> None:
        looked = -1
        for number, event in self._events_of(call):
            if event[4] != block:
                continue
            if event[0] in (ev.READ, ev.READ_ONCE) and event[5] == "dirty_min":
                self._add(number, f"walk: takes the dirty range of {self.symbols.object(block)}", CHANGE)
                return
            if event[0] in _WRITES:
                return
            if event[0] in (ev.READ, ev.READ_ONCE) and event[5] == "dirty":
                looked = number
        if looked >= 0:
            seen = f"{self.symbols.object(block)}->dirty == {self.wording.value(self.events[looked])}"
            self._add(looked, f"walk: {seen}, skipped", ALWAYS)
        elif walked >= 0:
            self._add(walked, f"walk: {self._why_unseen(block, walked)}", ALWAYS)

    def _why_unseen(self, block: int, walked: int) -> str:
        name = self.symbols.object(block)
        is_list_walk = self.events[walked][0] != ev.XA_LOAD
        left, came = (ev.LIST_DEL, ev.LIST_ADD) if is_list_walk else (ev.XA_ERASE, ev.XA_STORE)
        where = "no free list" if is_list_walk else "no xarray any more"
        for number in range(walked, -1, -1):
            event = self.events[number]
            if event[0] in (left, came) and block in (event[4], event[6]):
                return f"{name} is on {where}" if event[0] == left and is_list_walk else f"does not come to {name}"
        return f"{name} is in {where}"

    def _tell_touch(self, touched: int) -> None:
        """How whoever touches a dead object came by it, and what it had looked at before."""
        event = self.events[touched]
        self._add(touched, self.wording.step(touched), ALWAYS)
        block = self.objects.block_of.get(event[4], event[4])
        name = self.symbols.object(block)
        has_looked = False
        for number, other in reversed(list(self._events_of(self.frames.of[touched]))):
            if number >= touched:
                continue
            is_link = other[0] in (ev.READ, ev.READ_ONCE) and str(other[5]).endswith(".next")
            if other[6] == block and (is_link or other[0] == ev.XA_LOAD):
                is_walk = is_link or not self._is_in(number, "vb_free")
                self._add(number, f"walk: comes to {name}" if is_walk else f"xa_load() finds {name}", ALWAYS)
                self._tell_reader(number)
                return
            if other[4] == block and other[0] in (ev.READ, ev.READ_ONCE) and other[5] == "dirty" and not has_looked:
                has_looked = True
                self._add(number, self.wording.step(number), CHANGE)

    def _tell_reader(self, number: int) -> None:
        """The RCU reader section that event `number` lies in."""
        task = self.events[number][1]
        for earlier in range(number, -1, -1):
            event = self.events[earlier]
            if event[1] == task and event[0] in (ev.RCU_READ_LOCK, ev.RCU_READ_UNLOCK):
                if event[0] == ev.RCU_READ_LOCK:
                    self._add(earlier, self.wording.step(earlier), CHANGE)
                return

    def _tell_list(self, number: int, rank: int) -> None:
        """A list change as one line; where the list is corrupt, with the loads and stores of it that others see."""
        event = self.events[number]
        node = f"{self.symbols.object(event[4])}->{event[5]}"
        parts = self._list_parts(number)
        first = parts[0] if parts else number
        if event[0] == ev.LIST_ADD:
            name = "list_add_tail_rcu" if event[5] == "free_list" else "list_add_tail"
            target = f", &{self.symbols.object(event[6])}->free" if event[6] in self.objects.cpu_of else ""
            text = f"{name}(&{node}{target})"
        else:
            is_poisoned = any(self.events[part][4:6] == (event[4], f"{event[5]}.next") for part in parts[2:])
            text = f"{'list_del' if is_poisoned else 'list_del_rcu'}(&{node}){self._other_list(number, event)}"
        if self.violation.check != CORRUPT:
            self._add(first, text, rank)
            return
        lines = [
            part
            for part in parts
            if part <= self.end and (self.events[part][0] not in _WRITES or self.events[part][4] != event[4])
        ]
        head = f"\n{self.wording.step(first)}" if lines[:1] == [first] else ""
        self._add(first, text + head, rank)
        for part in lines:
            if part != first:
                self._add(part, self.wording.step(part), CHANGE, indent=1)

    def _change_of_list(self, number: int) -> int:
        """The list change that an event is part of, -1 if of none."""
        task, frame = self.events[number][1], self.frames.of[number]
        if not is_link(self.events[number]) and self.events[number][0] not in _LIST_KINDS:
            return -1
        for later in range(number, len(self.events)):
            event = self.events[later]
            if event[1] == task:
                if event[0] in (ev.LIST_ADD, ev.LIST_DEL):
                    return later
                if self.frames.of[later] is not frame or not (is_link(event) or event[0] in _WITHIN_LIST):
                    return -1
        return -1

    def _list_parts(self, number: int) -> list[int]:
        """The loads and stores of links that a list change is made of."""
        event = self.events[number]
        parts: list[int] = []
        for earlier in range(number - 1, -1, -1):
            other = self.events[earlier]
            if other[1] != event[1]:
                continue
            if other[0] in _WITHIN_LIST:
                continue
            if not is_link(other) or self.frames.of[earlier] is not self.frames.of[number]:
                break
            parts.append(earlier)
        return parts[::-1]

    def _other_list(self, number: int, event: Event) -> str:
        """That a node is taken off a list whose lock is not the one held."""
        head = held = 0
        for other in self.events[:number]:
            if other[0] == ev.LIST_ADD and other[4] == event[4] and other[5] == event[5]:
                head = other[6]
            elif other[1] == event[1] and other[0] in (ev.LOCK, ev.UNLOCK) and other[5] == "vbq->lock":
                held = other[4] if other[0] == ev.LOCK else 0
        if head and held and head != held:
            return f"   /* it is on {self.symbols.object(head)}'s list */"
        return ""

    def _tell_locks(self) -> None:
        """Locks held across a step of another task that is told, or around the violation's own steps."""
        told = sorted(self.steps)
        holds: dict[tuple[int, int, int | str], int] = {}
        for number, event in list(self._in_calls()):
            if event[5] not in _LOCKS_TOLD or event[0] not in (ev.LOCK, ev.UNLOCK):
                continue
            key = (event[1], event[4], event[5])
            if event[0] == ev.LOCK:
                holds[key] = number
                continue
            locked = holds.pop(key, -1)
            if locked >= 0:
                self._tell_hold(locked, number, [step for step in told if locked < step < number])
        for locked in holds.values():
            self._tell_hold(locked, -1, [step for step in told if locked < step])

    def _tell_hold(self, locked: int, unlocked: int, within: list[int]) -> None:
        task = self.events[locked][1]
        own = [number for number in within if self.steps[number].task == task]
        if not own:
            return
        is_shared = len(own) < len(within)
        is_decisive = any(self.steps[number].rank == ALWAYS for number in own)
        if is_shared or is_decisive:
            rank = CHANGE if is_shared else DETAIL
            self._add(locked, self.wording.step(locked), rank)
            if 0 <= unlocked <= self.end:
                self._add(unlocked, self.wording.step(unlocked), rank)
                self.steps[unlocked].pair, self.steps[locked].pair = locked, unlocked
