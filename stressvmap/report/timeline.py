# SPDX-License-Identifier: GPL-2.0-only
"""What `stressvmap show` prints of a journal: one line an event, filters, and the timeline formats of other viewers.

Pure functions over a Journal. Not this file's business: what is wrong in it (checks/), and the story of a violation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from stressvmap.journal import events as ev
from stressvmap.journal.events import KIND_NAMES, Event
from stressvmap.journal.journal import Journal
from stressvmap.journal.place import name_of, place_of, places
from stressvmap.ranges import PAGE_SHIFT, PageRange

Json = dict[str, Any]

_OBJECT_SHIFT: Final = 20
_OBJECT_NUMBER: Final = (1 << _OBJECT_SHIFT) - 1
_ADDRESS_MASK: Final = (1 << 64) - 1

_RANGE_KINDS: Final = frozenset({ev.FLUSH_ARGS, ev.UNMAP_BEGIN, ev.UNMAP_END, ev.TLB_INVALIDATE, ev.FLUSH_BEGIN,
    ev.FLUSH_END, ev.SPACE_OUT, ev.SPACE_BACK, ev.AUDIT_AREA})  # fmt: skip
"""a and c are a range of pages."""
_PAGE_KINDS: Final = frozenset({ev.PTE_SET, ev.PTE_CLEAR, ev.PTE_BUSY, ev.TLB_FILL, ev.TLB_READ})
"""a is a page."""


# -- names ------------------------------------------------------------------------------------------------


def task_name(journal: Journal, task: int) -> str:
    """The name the header gives a task, `boot` for task 0, else `task N`."""
    tasks = journal.header.get("tasks")
    entry = tasks.get(str(task)) if isinstance(tasks, dict) else None
    if isinstance(entry, list | tuple) and entry:
        return str(entry[0])
    return f"task {task}" if task else "boot"


def object_classes(journal: Journal) -> dict[int, str]:
    """The class of each object allocated in `journal`, for `describe` to name it by."""
    return {event[4]: str(event[5]) for event in journal.events if event[0] in (ev.OBJECT_ALLOC, ev.AUDIT_OBJECT)}


def kind_name(kind: int) -> str:
    """A kind's name; `kind N` for one this version does not know."""
    return KIND_NAMES.get(kind, f"kind {kind}")


def pages_of(event: Event) -> PageRange | None:
    """The pages an event is about; None if it is about none."""
    kind, a, c = event[0], event[4], event[6]
    if kind in _RANGE_KINDS:
        return PageRange(a, c)
    if kind in _PAGE_KINDS:
        return PageRange(a, a + 1)
    if kind in (ev.API_BEGIN, ev.API_END) and a:
        return PageRange(a, a + max(c, 1))
    if kind in (ev.TREE_FIND, ev.AUDIT_INDEXED) or (kind == ev.AUDIT_FIELD and event[5] == "va_start"):
        return PageRange(c, c + 1)
    return None


# -- one line an event ------------------------------------------------------------------------------------

_WORDS: Final[dict[int, str]] = {
    ev.READ: "reads {e.field}: {e.value}",
    ev.WRITE: "writes {e.field} = {e.value}",
    ev.READ_ONCE: "READ_ONCE({e.field}): {e.value}",
    ev.WRITE_ONCE: "WRITE_ONCE({e.field}, {e.value})",
    ev.ATOMIC: "atomic {e.field}: now {e.value}",
    ev.LOCK: "takes {e.lock}{e.after_waiting}",
    ev.UNLOCK: "releases {e.lock}",
    ev.LOCK_WAIT: "waits for {e.lock}, held by {e.c_task}",
    ev.TRYLOCK_FAILED: "trylock of {e.lock} fails: held by {e.c_task}",
    ev.ASSERT_HELD: "asserts that it holds {e.lock}",
    ev.MIGHT_SLEEP: "{e.b}: may sleep here, preempt count {e.c}",
    ev.RCU_READ_LOCK: "rcu_read_lock, depth {e.c}",
    ev.RCU_READ_UNLOCK: "rcu_read_unlock, depth {e.c}",
    ev.KFREE_RCU: "kfree_rcu of {e.b_object}: freed after a grace period",
    ev.OBJECT_ALLOC: "allocates {e.b_object}",
    ev.OBJECT_FREE: "frees {e.b_object}{e.how_freed}",
    ev.ALLOC_FAILED: "allocation fails: {e.b}, request {e.c} of this task",
    ev.DEAD_ACCESS: "USE AFTER FREE: {e.c_kind} of {e.field}",
    ev.UNINITIALISED: "reads {e.field}, which nobody wrote",
    ev.RELEASE: "publishes what it did by its next store of {e.field}",
    ev.LIST_ADD: "list_add {e.field} to the list of {e.c_object}",
    ev.LIST_DEL: "list_del {e.field}",
    ev.LIST_CORRUPT: "LIST CORRUPTION at {e.field}: its neighbour {e.c_object} does not point back",
    ev.XA_LOAD: "xa_load({e.object}, {e.b}): {e.c_object}",
    ev.XA_STORE: "xa_store({e.object}, {e.b}, {e.c_object})",
    ev.XA_ERASE: "xa_erase({e.object}, {e.b}): {e.c_object}",
    ev.TREE_INSERT: "inserts {e.object} into the {e.b} tree",
    ev.TREE_ERASE: "erases {e.object} from the {e.b} tree",
    ev.TREE_FIND: "looks up page {e.c:#x} in the {e.b} tree: {e.object}",
    ev.WORK_QUEUE: "queues work {e.b}{e.in_vain}",
    ev.WORK_BEGIN: "work {e.b} begins",
    ev.WORK_END: "work {e.b} ends",
    ev.WORK_FLUSHED: "has waited for the end of work {e.b}",
    ev.RELEASE: "its next store to {e.field} is a release",
    ev.MIGRATED: "migrates from CPU {e.a} to CPU {e.c}",
    ev.FLUSH_ARGS: "asks for a flush of {e.pages}{e.reason}",
    ev.BUG: "BUG: {e.b}",
    ev.WARN: "WARNING: {e.b}",
    ev.SLOT_PUT: "puts its mapping into slot {e.a}",
    ev.SLOT_TAKE: "takes the mapping from slot {e.a}",
    ev.IPI_SEND: "interrupts CPU {e.c} for flush {e.a}",
    ev.RCU_WAIT: "{e.b} {e.a}: waits for the readers that are inside",
    ev.RCU_WAIT_OVER: "{e.b} {e.a}: they have left",
    ev.PREEMPT: "{e.b}: preempt count {e.a}",
    ev.API_BEGIN: "calls {e.b}{e.call_span}",
    ev.API_END: "{e.b} returns{e.return_span}",
    ev.PTE_SET: "sets the PTE of page {e.a:#x} to frame {e.b:#x}",
    ev.PTE_CLEAR: "clears the PTE of page {e.a:#x}, was frame {e.b:#x}",
    ev.PTE_BUSY: "PTE BUSY: page {e.a:#x} still maps frame {e.b:#x}",
    ev.UNMAP_BEGIN: "begins to clear {e.pages}",
    ev.UNMAP_END: "has cleared {e.pages}",
    ev.TLB_FILL: "the TLB of CPU {e.cpu} caches page {e.a:#x} -> frame {e.b:#x}",
    ev.TLB_INVALIDATE: "the TLB of CPU {e.cpu} drops {e.pages}",
    ev.FLUSH_BEGIN: "flush {e.b} begins: {e.pages}",
    ev.FLUSH_END: "flush {e.b} ends, every CPU has answered: {e.pages}",
    ev.TLB_READ: "reads page {e.a:#x}: frame {e.b:#x}, {e.through}",
    ev.SPACE_OUT: "address space handed out: {e.pages} {e.b}",
    ev.SPACE_BACK: "address space is free again: {e.pages}",
    ev.FRAME_OWNER: "frame {e.a:#x} {e.new_owner}",
    ev.CPU_OFFLINE: "CPU {e.a} goes offline",
    ev.CPU_ONLINE: "CPU {e.a} comes online",
    ev.STOPPED: "the execution stops: {e.b}",
    ev.BLOCKED: "is blocked: {e.lock}{e.holder}",
    ev.RUNNABLE: "could have gone on",
    ev.AUDIT_BEGIN: "audit begins ({e.b})",
    ev.AUDIT_FIELD: "audit: {e.field} = {e.value}",
    ev.AUDIT_LISTED: "audit: {e.object} is on the {e.b} list of CPU {e.c}",
    ev.AUDIT_INDEXED: "audit: {e.object} is in {e.b} at page {e.c:#x}",
    ev.AUDIT_AREA: "audit: {e.pages} is in the {e.b} tree",
    ev.AUDIT_VALUE: "audit: {e.b} = {e.value}",
    ev.AUDIT_OBJECT: "audit: {e.b_object} is still allocated",
    ev.AUDIT_LIST_BROKEN: "audit: LIST BROKEN at {e.object} on {e.b} of CPU {e.c}",
    ev.AUDIT_END: "audit ends",
}
"""What happened, in words. Each `{e.x}` is an attribute of _Words."""


class _Words:
    """An event's fields as a template wants them; each is worked out only if it is asked for."""

    def __init__(self, event: Event, journal: Journal, classes: Mapping[int, str]) -> None:
        self.kind, self.task, self.cpu, self.function, self.a, self.b, self.c = event
        self._journal = journal
        self._classes = classes

    def _object(self, number: int) -> str:
        name = f"{self._classes.get(number, 'object')} {number >> _OBJECT_SHIFT}.{number & _OBJECT_NUMBER}"
        return name if number else "NULL"

    @property
    def object(self) -> str:
        return self._object(self.a)

    @property
    def c_object(self) -> str:
        return self._object(self.c)

    @property
    def b_object(self) -> str:
        return f"{self.b or 'object'} {self.a >> _OBJECT_SHIFT}.{self.a & _OBJECT_NUMBER}"

    @property
    def in_vain(self) -> str:
        return ": it is queued already" if self.c else ""

    @property
    def field(self) -> str:
        return f"{self.object}->{self.b}"

    @property
    def lock(self) -> str:
        is_global = not self.a or self._classes.get(self.a) == "static_lock"
        return str(self.b) if is_global else f"{self.b} of {self.object}"

    @property
    def value(self) -> str:
        if str(self.b).endswith((".next", ".prev")):
            return self._object(self.c)
        return f"{self.c:#x}" if abs(self.c) >= 4096 else str(self.c)

    @property
    def pages(self) -> str:
        return _pages_in_words(self.a, self.c)

    @property
    def c_task(self) -> str:
        return task_name(self._journal, self.c)

    @property
    def holder(self) -> str:
        return f", held by {self.c_task}" if self.c else ""

    @property
    def c_kind(self) -> str:
        return kind_name(self.c)

    @property
    def after_waiting(self) -> str:
        return " after waiting" if self.c else ""

    @property
    def how_freed(self) -> str:
        return ": it lives on as a node of the free tree" if self.c == ev.FREED_RECYCLED else ""

    @property
    def reason(self) -> str:
        return f" ({self.b})" if self.b else ""

    @property
    def through(self) -> str:
        return "through a cached translation" if self.c else "after a walk of the page table"

    @property
    def new_owner(self) -> str:
        return f"gets owner {self.c}" if self.c else "goes back to the page allocator"

    @property
    def call_span(self) -> str:
        if self.a:
            return f" of {_pages_in_words(self.a, self.a + self.c)}"
        return f" for {_count_pages(self.c)}" if self.c else ""

    @property
    def return_span(self) -> str:
        if self.a:
            return f": {_pages_in_words(self.a, self.a + self.c)}"
        return ": failed" if str(self.b).startswith(("vm_map_ram", "vmalloc")) else ""


def describe(event: Event, number: int, journal: Journal, classes: Mapping[int, str] | None = None) -> str:
    """One line: number, task, CPU, kernel function (of a tree with its line, and at the end what it had inlined), and
    what happened in words; pages in hex.

    `classes` (from `object_classes`) lets it say `vmap_block 1.5` for the 5th allocation by task 1, not `object 1.5`.
    """
    _, task, cpu, function = event[:4]
    words = _in_words(event, journal, classes or {})
    place, inside = place_of(function), places(function)[:1]
    if place is not None and place not in inside:
        words += f"   [{inside[0]}]"
    width = 40 if place is not None and place.file else 28
    return _one_line(f"{number:>8}  {task_name(journal, task):<12} CPU {cpu:<3} {place or '-'!s:<{width}} {words}")


def _in_words(event: Event, journal: Journal, classes: Mapping[int, str]) -> str:
    template = _WORDS.get(event[0])
    if template is None:
        return f"{kind_name(event[0])}: a={event[4]} b={event[5]!r} c={event[6]}"
    return template.format(e=_Words(event, journal, classes)).rstrip()


def _one_line(text: str) -> str:
    """A journal may be a stranger's: no line breaks and no terminal sequences out of its strings."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def _pages_in_words(start: int, end: int) -> str:
    if start == 0 and end >= ev.FULL_END:
        return "everything"
    size = _count_pages(end - start) if start < end else "empty" if start == end else "start after end"
    return f"pages [{start:#x}, {end:#x}) ({size})"


def _count_pages(count: int) -> str:
    return "1 page" if count == 1 else f"{count} pages"


# -- Perfetto ---------------------------------------------------------------------------------------------

_TASKS_PROCESS: Final = 1
_CPUS_PROCESS: Final = 2
_LOCKS_PROCESS: Final = 3

_SLICES: Final = {ev.API_BEGIN: ev.API_END, ev.UNMAP_BEGIN: ev.UNMAP_END, ev.FLUSH_BEGIN: ev.FLUSH_END}
_SLICE_ENDS: Final = frozenset(_SLICES.values())
_INSTANTS: Final = frozenset({
    ev.PTE_CLEAR, ev.TLB_INVALIDATE, ev.PTE_BUSY, ev.BUG, ev.WARN, ev.DEAD_ACCESS, ev.UNINITIALISED, ev.LIST_CORRUPT,
    ev.ALLOC_FAILED, ev.STOPPED,
})  # fmt: skip


class _Track:
    """One row of slices. A viewer wants them nested: ending an outer one ends the inner ones and begins them again."""

    def __init__(self, out: list[Json], process: int, thread: int) -> None:
        self.out = out
        self.process = process
        self.thread = thread
        self.open: list[tuple[str, Json]] = []

    def _emit(self, phase: str, name: str, at: int, args: Json) -> None:
        entry: Json = {"ph": phase, "name": name, "ts": at, "pid": self.process, "tid": self.thread, "args": args}
        if phase == "i":
            entry["s"] = "t"
        self.out.append(entry)

    def begin(self, name: str, at: int, args: Json) -> None:
        self.open.append((name, args))
        self._emit("B", name, at, args)

    def end(self, name: str, at: int) -> None:
        """End the innermost open slice of that name; nothing, if none is (the journal began within it)."""
        depth = next((n for n in reversed(range(len(self.open))) if self.open[n][0] == name), None)
        if depth is None:
            return
        for inner, _ in reversed(self.open[depth:]):
            self._emit("E", inner, at, {})
        reopened = self.open[depth + 1 :]
        del self.open[depth:]
        for inner, args in reopened:
            self.begin(inner, at, args)

    def end_all(self, at: int) -> None:
        while self.open:
            self.end(self.open[-1][0], at)

    def instant(self, name: str, at: int, args: Json) -> None:
        self._emit("i", name, at, args)


class _TaskTracks:
    """A task's two rows: calls (API calls, kernel functions, unmaps, flushes) and the locks it holds."""

    def __init__(self, out: list[Json], task: int) -> None:
        self.calls = _Track(out, _TASKS_PROCESS, task)
        self.locks = _Track(out, _LOCKS_PROCESS, task)
        self.function = ""
        self.last = 0

    def enter(self, function: str, at: int) -> None:
        """The task makes event `at` in `function`: a slice runs from the first to the last event of such a stretch."""
        if function != self.function:
            self.leave()
            if function:
                self.calls.begin(f"{function}()", at, {})
        self.function = function
        self.last = at

    def leave(self) -> None:
        """End the stretch; before any other slice begins or ends, so that a stretch is always innermost."""
        if self.function:
            self.calls.end(f"{self.function}()", self.last + 1)
        self.function = ""


def to_perfetto(journal: Journal) -> Json:
    """The journal as Chrome trace-event JSON for ui.perfetto.dev; an event's number is its microsecond.

    Three groups of rows: per task its calls (API calls, kernel functions, unmaps, flushes), per CPU the task that ran,
    per task the locks held. A kernel function's slice is a stretch of events made in it: the journal tells which
    function an event was made in, not who called whom.
    """
    out: list[Json] = []
    tasks: dict[int, _TaskTracks] = {}
    cpus: dict[int, _Track] = {}
    running: dict[int, tuple[str, int]] = {}
    classes = object_classes(journal)
    for number, event in enumerate(journal.events):
        task, cpu = event[1], event[2]
        if task not in tasks:
            tasks[task] = _TaskTracks(out, task)
        if cpu not in cpus:
            cpus[cpu] = _Track(out, _CPUS_PROCESS, cpu)
        _run_on_cpu(cpus[cpu], running, task_name(journal, task), cpu, number)
        args: Json = {}
        if event[0] in _INSTANTS or event[0] in _SLICES or event[0] == ev.LOCK:
            args = {"event": number, "what": _in_words(event, journal, classes)}
            place = place_of(event[3])
            args |= {"at": place.position} if place is not None and place.file else {}
        _draw_event(tasks[task], cpus[cpu], event, number, args)
    for tracks in tasks.values():
        tracks.leave()
        tracks.calls.end_all(len(journal.events))
        tracks.locks.end_all(len(journal.events))
    for cpu, (name, last) in running.items():
        cpus[cpu].end(name, last + 1)
    return {
        "traceEvents": [*_track_names(journal, tasks, cpus), *out],
        "displayTimeUnit": "ns",
        "otherData": {"version": str(journal.header.get("version", "")), "damage": journal.damage},
    }


def _run_on_cpu(track: _Track, running: dict[int, tuple[str, int]], name: str, cpu: int, number: int) -> None:
    before, last = running.get(cpu, ("", 0))
    if before != name:
        track.end(before, last + 1)
        track.begin(name, number, {})
    running[cpu] = (name, number)


def _draw_event(tracks: _TaskTracks, cpu: _Track, event: Event, number: int, args: Json) -> None:
    kind, _, _, _, _, b, _ = event
    if kind in _SLICES:
        tracks.leave()
        tracks.calls.begin(_slice_name(_SLICES[kind], b), number, args)
        return
    if kind in _SLICE_ENDS:
        tracks.leave()
        tracks.calls.end(_slice_name(kind, b), number + 1)
        return
    tracks.enter(name_of(event[3]), number)
    if kind == ev.LOCK:
        tracks.locks.begin(_hold_name(event), number, args)
    elif kind == ev.UNLOCK:
        tracks.locks.end(_hold_name(event), number)
    elif kind in _INSTANTS:
        (cpu if kind == ev.TLB_INVALIDATE else tracks.calls).instant(kind_name(kind).upper(), number, args)


def _slice_name(end_kind: int, b: int | str) -> str:
    if end_kind == ev.API_END:
        return str(b)
    return f"flush {b}" if end_kind == ev.FLUSH_END else "unmap"


def _hold_name(event: Event) -> str:
    inside = event[4]
    return f"{event[5]} {inside >> _OBJECT_SHIFT}.{inside & _OBJECT_NUMBER}" if inside else str(event[5])


def _track_names(journal: Journal, tasks: Iterable[int], cpus: Iterable[int]) -> Iterator[Json]:
    for process, name in ((_TASKS_PROCESS, "tasks"), (_CPUS_PROCESS, "CPUs"), (_LOCKS_PROCESS, "locks held")):
        yield _metadata("process_name", process, 0, {"name": name})
    for task in sorted(tasks):
        name = f"{task_name(journal, task)} (task {task})"
        for process in (_TASKS_PROCESS, _LOCKS_PROCESS):
            yield _metadata("thread_name", process, task, {"name": name})
            yield _metadata("thread_sort_index", process, task, {"sort_index": task})
    for cpu in sorted(cpus):
        yield _metadata("thread_name", _CPUS_PROCESS, cpu, {"name": f"CPU {cpu}"})
        yield _metadata("thread_sort_index", _CPUS_PROCESS, cpu, {"sort_index": cpu})


def _metadata(what: str, process: int, thread: int, args: Json) -> Json:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": args}


# -- ftrace -----------------------------------------------------------------------------------------------

_FTRACE_COLUMNS: Final = """\
#
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |"""


def to_ftrace(journal: Journal) -> Iterator[str]:
    """The journal as lines of an ftrace `trace` file; an event's number is its time stamp, a task's id its PID.

    What the probes of a recording on a real kernel see has their names and fields; the rest are `stressvmap:` lines.
    A flush of everything is a flush_tlb_all. If events were lost, the header says that more were written than are here.
    """
    count = len(journal.events)
    written = count if journal.complete else count + 1
    cpus = {event[2] for event in journal.events}
    yield "# tracer: nop"
    yield "#"
    yield f"# entries-in-buffer/entries-written: {count}/{written}   #P:{max(1, len(cpus))}"
    if not journal.complete:
        yield f"# incomplete: {' '.join(journal.damage.split()) or 'events were lost'}"
    yield from _FTRACE_COLUMNS.splitlines()
    for number, event in enumerate(journal.events):
        name = task_name(journal, event[1]).replace(" ", "_")[:15]
        yield _one_line(f"{name:>16}-{event[1]:<7} [{event[2]:03d}] ..... {number:>12}: {_ftrace_event(event)}")


def _ftrace_event(event: Event) -> str:
    kind, _, _, _, a, b, c = event
    if kind in (ev.API_BEGIN, ev.API_END) and b in _API_PROBES:
        template = _API_PROBES[b][kind == ev.API_END]
    else:
        template = _PROBES.get(kind, "")
        if kind in (ev.FLUSH_BEGIN, ev.FLUSH_END) and a == 0 and c >= ev.FULL_END:
            template = "flush_tlb_all_enter:" if kind == ev.FLUSH_BEGIN else "flush_tlb_all_exit:"
    if template:
        return template.format(start=_address(a), end=_address(c), count=c)
    return _ftrace_other(event)


_API_PROBES: Final[dict[int | str, tuple[str, str]]] = {
    "vm_map_ram": ("vm_map_ram_enter: count={count}", "vm_map_ram_exit: ret={start}"),
    "vm_unmap_ram": ("vm_unmap_ram_enter: addr={start} count={count}", "vm_unmap_ram_exit:"),
    "vm_unmap_aliases": ("vm_unmap_aliases_enter:", "vm_unmap_aliases_exit:"),
}
_PROBES: Final[dict[int, str]] = {
    ev.UNMAP_BEGIN: "__vunmap_range_noflush_enter: start={start} end={end}",
    ev.UNMAP_END: "__vunmap_range_noflush_exit:",
    ev.FLUSH_BEGIN: "flush_tlb_kernel_range_enter: start={start} end={end}",
    ev.FLUSH_END: "flush_tlb_kernel_range_exit:",
}


def _ftrace_other(event: Event) -> str:
    """A `stressvmap:` line: the kind, and its fields as they are stored; ranges and pages as addresses."""
    kind, _, _, function, a, b, c = event
    place = place_of(function)
    where = f" in={place.function}" if place is not None else ""
    if place is not None and place.file:
        where += f" at={place.position}"
    if kind in _RANGE_KINDS:
        named = f" what={b}" if b != "" else ""
        return f"stressvmap: {kind_name(kind)} start={_address(a)} end={_address(c)}{named}{where}"
    if kind in _PAGE_KINDS and isinstance(b, int):
        return f"stressvmap: {kind_name(kind)} addr={_address(a)} frame={b:#x} c={c}{where}"
    if kind in (ev.API_BEGIN, ev.API_END):
        return f"stressvmap: {kind_name(kind)} call={b} addr={_address(a)} count={c}{where}"
    quoted = json.dumps(b, ensure_ascii=False) if " " in str(b) else b
    return f"stressvmap: {kind_name(kind).replace(' ', '_')} a={a:#x} b={quoted} c={c}{where}"


def _address(page: int) -> str:
    return f"{page << PAGE_SHIFT & _ADDRESS_MASK:#x}"
