# SPDX-License-Identifier: GPL-2.0-only
"""The tree backend's shim: each primitive means what the Python package's kernel/ says. On programs of our own
(programs/primitives.c) in place of kernel files.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from stressvmap.runtime.runtime import DEADLOCK, DONE
from tests.tree.engine_driver import (
    COMPILER,
    ENGINE,
    FAMILY,
    FIRST,
    INSTRUMENTED,
    LAST,
    OF_CLANG,
    OF_GCC,
    PROGRAMS,
    ROOT,
    Engine,
    Event,
    Job,
    write_event_numbers,
)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler: the shim of the tree backend is not tested")

SHIM: Final = ROOT / "stressvmap/tree/shim"
OF_A_TREE: Final = ("index.c", "program.c", "registered.c")
"""Files that need headers of a kernel tree."""
HOSTED: Final = ("-std=gnu11", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror")
AS_KERNEL: Final = (
    *HOSTED,
    *("-ffreestanding", "-nostdinc", "-Wno-unused-parameter", "-Wno-sign-compare", "-DSV_WITHOUT_TREE"),
    *("-include", SHIM / "include/sv_kernel.h", f"-I{SHIM}", f"-I{SHIM}/include"),
)
Op = tuple[str, int]


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def compile_into(folder: Path, flags: Sequence[object], source: Path) -> Path:
    target = folder / f"{source.stem}.o"
    run(COMPILER, *flags, f"-I{folder}", f"-I{ENGINE}", "-c", source, "-o", target)
    return target


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shim")
    write_event_numbers(folder / "sv_events.h")
    (folder / "sv_undef.h").touch()
    headers = ("-isystem", run(COMPILER, "-print-file-name=include").strip())
    shim = [path for path in sorted(SHIM.glob("*.c")) if path.name not in OF_A_TREE]
    hosted = [path for path in shim if path.name.startswith("host_")]
    hosted += [path for path in sorted(ENGINE.iterdir()) if path.suffix in (".c", ".S")]
    kernel = [path for path in shim if path not in hosted]
    (folder / "engine").mkdir()
    for name in ("sv_events.h", "sv_undef.h"):
        (folder / "engine" / name).write_text((folder / name).read_text())
    with ThreadPoolExecutor(2) as pool:
        engine_objects = list(pool.map(partial(compile_into, folder / "engine", HOSTED), hosted))
        objects = list(pool.map(partial(compile_into, folder, (*AS_KERNEL, *headers, "-DSV_SHIM")), kernel))
    instrumented = (*INSTRUMENTED, *(OF_GCC if FAMILY == "gcc" else OF_CLANG))
    program = compile_into(folder, (*AS_KERNEL, *headers, *instrumented), PROGRAMS / "primitives.c")
    run("ld", "-r", "-o", folder / "together.o", program, *objects)
    sections = [".data=kdata", ".data.rel.local=kdata", ".bss=kbss"]
    renames = [word for section in sections for word in ("--rename-section", section)]
    run("objcopy", *renames, folder / "together.o", folder / "state.o")
    target = folder / "primitives.so"
    run(COMPILER, "-shared", "-Wl,-z,defs", "-Wl,-z,noexecstack", "-o", target, folder / "state.o", *engine_objects)
    return target


@pytest.fixture(scope="module")
def engine(library: Path) -> Engine:
    return Engine(library, cpus=3)


def tasks(*programs: list[Op]) -> list[tuple[int, list[Op]]]:
    """One task a CPU."""
    return [(cpu, ops) for cpu, ops in enumerate(programs)]


def events(engine: Engine, *names: str) -> list[Event]:
    """Of the run: boot, which is task 0, is the same each time."""
    return [event for event in engine.journal() if event.name in names and event.task]


def texts(engine: Engine, *names: str) -> list[str | int]:
    return [event.b for event in events(engine, *names)]


def complaints(engine: Engine) -> list[str | int]:
    """What no run of correct code has."""
    return [event.b or event.name for event in events(engine, "bug", "warn", "dead_access", "uninitialised")]


def plans_with_two_preemptions(points: int) -> Iterator[list[tuple[int, int]]]:
    """One task, the other after i points, the first again after j."""
    for first in (FIRST, LAST):
        for i in range(1, points):
            for j in range(1, points):
                yield [(first, i), (LAST - first, j), (first, 10_000)]


def random_plans(n: int) -> Iterator[list[tuple[int, int]]]:
    for seed in range(n):
        numbers = random.Random(f"shim/{seed}")
        yield [(numbers.randrange(1 << 32), numbers.randrange(1, 9)) for _ in range(60)]


def state(engine: Engine, number: int) -> int:
    return int(engine.lib.state(number))


# -- locks -----------------------------------------------------------------------------------------------------

LOCKED: Final = ("in_spinlock", "in_irq_spinlock", "in_mutex", "in_guard", "giving_way")


@pytest.mark.parametrize("case", LOCKED)
def test_a_lock_excludes_under_every_plan_with_two_preemptions(engine: Engine, case: str) -> None:
    for plan in plans_with_two_preemptions(14):
        assert engine.run(Job(tasks([(case, 2)], [(case, 2)]), plan)) == DONE
        assert complaints(engine) == []
        assert state(engine, 1) == 4


@pytest.mark.parametrize("case", LOCKED)
def test_a_lock_excludes_under_random_plans(engine: Engine, case: str) -> None:
    for plan in random_plans(60):
        assert engine.run(Job(tasks(*[[(case, 2)] * 2] * 3), plan)) == DONE
        assert complaints(engine) == []
        assert state(engine, 1) == 12


def test_without_a_lock_two_are_inside(engine: Engine) -> None:
    seen: set[str | int] = set()
    for plan in plans_with_two_preemptions(8):
        engine.run(Job(tasks([("in_no_lock", 2)], [("in_no_lock", 2)]), plan))
        seen.update(complaints(engine))
    assert seen == {"two are inside"}


def test_a_lock_that_is_held_is_told_and_waited_for(engine: Engine) -> None:
    engine.run(Job(tasks([("in_spinlock", 2)], [("in_spinlock", 1)]), [(FIRST, 3), (LAST, 50)]))
    told = [(event.name, event.task, event.b) for event in events(engine, "lock", "lock_wait", "unlock")]
    assert told == [
        ("lock", 1, "spin"),
        ("lock_wait", 2, "spin"),
        ("unlock", 1, "spin"),
        ("lock", 2, "spin"),
        ("unlock", 2, "spin"),
    ]
    assert [event.c for event in events(engine, "lock", "lock_wait")] == ["0", "1", "1"]


def test_two_locks_in_two_orders_deadlock(engine: Engine) -> None:
    job = Job(tasks([("one_then_other", 0)], [("other_then_one", 0)]), [(FIRST, 2), (LAST, 50)])
    assert engine.run(job) == DEADLOCK
    told = {(event.task, event.b, event.c) for event in events(engine, "blocked")}
    assert {(1, "other_spin", "2"), (2, "spin", "1")} <= told


@pytest.mark.parametrize(("case", "who_goes_on"), [("in_spinlock", 1), ("in_mutex", 3)])
def test_who_waits_for_a_spinlock_keeps_its_cpu_and_who_waits_for_a_mutex_does_not(
    engine: Engine, case: str, who_goes_on: int
) -> None:
    to_the_second, to_the_last = (LAST >> 1, 50), (LAST, 50)
    job = Job([(0, [(case, 3)]), (1, [(case, 1)]), (1, [("add", 1)])], [(FIRST, 4), to_the_second, to_the_last])
    assert engine.run(job) == DONE
    told = [event.task for event in events(engine, "lock_wait", "write_once", "atomic")]
    assert told[told.index(2) + 1] == who_goes_on


def test_a_trylock_never_waits(engine: Engine) -> None:
    engine.run(Job(tasks([("in_mutex", 1)], [("if_mutex_is_free", 1)]), [(FIRST, 2), (LAST, 50)]))
    assert [event.task for event in events(engine, "trylock_failed")] == [2]
    assert events(engine, "lock_wait") == []
    engine.run(Job(tasks([("if_mutex_is_free", 1)])))
    assert [event.c for event in events(engine, "lock")] == ["2"]


def test_a_mutex_tells_that_it_may_sleep_and_with_what_preempt_count(engine: Engine) -> None:
    engine.run(Job(tasks([("in_mutex", 1), ("sleep_in_spinlock", 0)])))
    assert [(event.b, event.c) for event in events(engine, "might_sleep")] == [("mutex_lock", "0"), ("mutex_lock", "1")]


def test_cond_resched_lock_lets_in_who_waits(engine: Engine) -> None:
    engine.run(Job(tasks([("giving_way", 2)], [("in_spinlock", 1)]), [(FIRST, 3), (LAST, 50)]))
    assert next(event.task for event in events(engine, "lock_wait")) == 2
    assert len(events(engine, "lock")) == 3
    engine.run(Job(tasks([("giving_way", 2)])))
    assert len(events(engine, "lock")) == 1


def test_an_assertion_that_a_lock_is_held_is_told(engine: Engine) -> None:
    engine.run(Job(tasks([("assert_lock", 0)])))
    assert texts(engine, "assert_held") == ["spin"]


def test_an_interrupt_waits_while_interrupts_are_off(engine: Engine) -> None:
    job = Job(tasks([("in_irq_spinlock", 2)], [("flush", 1)]), [(FIRST, 4), (LAST, 60), (LAST, 60)])
    assert engine.run(job) == DONE
    journal = engine.journal()
    unlock = next(n for n, event in enumerate(journal) if event.name == "unlock")
    answer = next(n for n, event in enumerate(journal) if event.name == "tlb_invalidate" and event.task == 1000)
    assert answer > unlock


# -- atomics ---------------------------------------------------------------------------------------------------


def test_no_atomic_operation_is_lost(engine: Engine) -> None:
    for plan in random_plans(30):
        engine.run(Job(tasks([("add", 3)], [("take_number", 0)], [("take_number", 0), ("add", 1)]), plan))
        assert state(engine, 0) == 10


# -- RCU -------------------------------------------------------------------------------------------------------

READERS: Final = ("read_thing", "read_thing_pinned")
REPLACERS: Final = ("replace_thing", "replace_thing_by_callback", "replace_thing_and_wait")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("replacer", REPLACERS)
def test_rcu_waits_for_readers_and_for_who_is_not_preemptible(engine: Engine, reader: str, replacer: str) -> None:
    freed = 0
    for plan in plans_with_two_preemptions(10):
        assert engine.run(Job(tasks([(reader, 3)], [(replacer, 0)]), plan)) == DONE
        assert complaints(engine) == []
        freed += len(events(engine, "object_free"))
        assert state(engine, 6) == 1
    assert freed == len(list(plans_with_two_preemptions(10)))


def test_a_reader_outside_rcu_is_not_waited_for(engine: Engine) -> None:
    seen: set[str | int] = set()
    for plan in random_plans(60):
        engine.run(Job(tasks([("read_thing_carelessly", 4)], [("replace_thing", 0)]), plan))
        seen.update(event.name for event in events(engine, "dead_access"))
    assert seen == {"dead_access"}


def test_a_reader_that_began_later_is_not_waited_for(engine: Engine) -> None:
    readers = [("read_thing", 8)]
    job = Job(tasks([("replace_thing_and_wait", 0)], readers), [(FIRST, 6), (LAST, 3), (FIRST, 50)])
    assert engine.run(job) == DONE
    names = [(event.task, event.name) for event in events(engine, "rcu_wait_over", "rcu_read_unlock")]
    assert names == [(1, "rcu_wait_over"), (2, "rcu_read_unlock")]


# -- page table and TLBs ---------------------------------------------------------------------------------------


def test_a_flush_waits_for_every_online_cpu_and_not_for_one_that_is_offline(engine: Engine) -> None:
    for ops, asked in (([("flush", 4)], {"1", "2"}), ([("cpu_leaves", 2), ("flush", 4)], {"1"})):
        assert engine.run(Job(tasks(ops))) == DONE
        assert {event.c for event in events(engine, "ipi_send")} == asked
        ends = [event.name for event in events(engine, "tlb_invalidate", "flush_end")]
        assert ends == ["tlb_invalidate"] * (1 + len(asked)) + ["flush_end"]


def test_a_flush_does_not_end_before_a_pinned_cpu_has_been_interrupted(engine: Engine) -> None:
    for plan in random_plans(40):
        job = Job(tasks([("flush", 4)], [("stay_pinned", 5), ("flush", 2)], [("in_irq_spinlock", 1)]), plan)
        assert engine.run(job) == DONE
        for flush in events(engine, "flush_end"):
            assert flush.b in (1, 2)
        assert len(events(engine, "flush_end")) == 2
        assert len(events(engine, "tlb_invalidate")) == 6


def test_a_cpu_reads_what_its_tlb_holds_until_it_is_flushed(engine: Engine) -> None:
    once = [("map", 3), ("touch", 3), ("unmap", 3), ("touch", 3), ("flush", 8), ("touch", 3)]
    engine.run(Job(tasks(once)))
    names = [(event.name, event.c) for event in events(engine, "tlb_fill", "tlb_read")]
    assert names == [("tlb_fill", "0"), ("tlb_read", "0"), ("tlb_read", "1")]


def test_a_flush_of_other_pages_leaves_the_entry(engine: Engine) -> None:
    engine.run(Job(tasks([("map", 3), ("touch", 3), ("unmap", 3), ("flush", 3), ("touch", 3)])))
    assert [event.c for event in events(engine, "tlb_read")] == ["0", "1"]


def test_a_cpu_that_goes_offline_loses_its_tlb_and_its_tasks(engine: Engine) -> None:
    ops = [("map", 1), ("touch", 1), ("cpu_leaves", 0), ("touch", 1), ("cpu_comes", 0)]
    assert engine.run(Job(tasks(ops))) == DONE
    assert [(event.name, event.cpu) for event in events(engine, "tlb_read", "cpu_offline", "cpu_online")] == [
        ("tlb_read", 0),
        ("cpu_offline", 1),
        ("tlb_read", 1),
        ("cpu_online", 1),
    ]
    assert [event.c for event in events(engine, "tlb_read")] == ["0", "0"]
    assert (1, "0", "1") in [(event.task, event.a, event.c) for event in events(engine, "migrated")]


def test_a_present_pte_is_told_when_it_is_to_be_set_again(engine: Engine) -> None:
    engine.run(Job(tasks([("map", 2), ("map", 2), ("unmap", 2), ("unmap", 2)])))
    assert [event.name for event in events(engine, "pte_set", "pte_busy", "pte_clear")] == [
        "pte_set",
        "pte_busy",
        "pte_clear",
    ]


def test_a_run_begins_with_empty_tables(engine: Engine) -> None:
    engine.run(Job(tasks([("map", 2), ("touch", 2)])))
    engine.run(Job(tasks([("touch", 2), ("map", 2), ("touch", 2)])))
    assert [event.name for event in events(engine, "pte_set", "pte_busy", "tlb_fill")] == ["pte_set", "tlb_fill"]


def test_a_page_is_not_freed_twice(engine: Engine) -> None:
    engine.run(Job(tasks([("free_page_twice", 0), ("map", 0)])))
    assert texts(engine, "warn") == ["a page is freed that nobody owns"]
    assert [(event.a, event.c) for event in events(engine, "frame_owner")] == [("256", "1"), ("256", "0"), ("256", "2")]


# -- per-CPU data ----------------------------------------------------------------------------------------------


def test_each_cpu_counts_for_itself_and_a_walk_sees_all(engine: Engine) -> None:
    for plan in random_plans(20):
        engine.run(Job(tasks(*[[("count_here", 0)] * 3] * 3), plan))
        assert state(engine, 2) == 9
        assert complaints(engine) == []


def test_per_cpu_data_of_who_may_be_elsewhere_next_warns(engine: Engine) -> None:
    engine.run(Job(tasks([("count_here_preemptible", 0)])))
    assert texts(engine, "warn") == ["this_cpu_ptr() in preemptible code"]


def test_per_cpu_data_follow_the_possible_mask(library: Path) -> None:
    sparse = Engine(library, cpus=5)
    sparse.run(Job([(2, [("count_on", 4), ("count_here", 0)])]))
    assert (state(sparse, 2), complaints(sparse)) == (2, [])
    sparse.run(Job([(2, [("count_on", 3), ("count_here", 0)])]))
    assert state(sparse, 2) == 1
    assert texts(sparse, "warn") == ["per-CPU data of a CPU that is not possible"]


def test_masks_and_numbers_are_the_kernels(engine: Engine) -> None:
    engine.run(Job(tasks([("check_masks", 3), ("number_tricks", 0)])))
    assert complaints(engine) == []


# -- works -----------------------------------------------------------------------------------------------------


def test_a_work_is_queued_once_until_it_starts(engine: Engine) -> None:
    engine.run(Job(tasks([("queue", 1), ("queue", 1)]), [(FIRST, 10_000)]))
    assert [event.name for event in events(engine, "work_queue", "work_begin", "work_end")] == [
        "work_queue",
        "work_begin",
        "work_end",
    ]
    assert state(engine, 4) == 1


def test_flush_work_waits_for_the_run_that_is_queued(engine: Engine) -> None:
    for plan in random_plans(40):
        assert engine.run(Job(tasks([("queue", 1), ("wait_for_work", 1)], [("queue", 1)]), plan)) == DONE
        assert complaints(engine) == []
        journal = [event.name for event in events(engine, "work_queue", "work_end", "work_flushed")]
        assert "work_end" in journal
        if "work_flushed" in journal:
            assert "work_end" in journal[: journal.index("work_flushed")]


def test_a_work_may_wait_for_another(engine: Engine) -> None:
    for plan in random_plans(40):
        assert engine.run(Job(tasks([("queue", 0)], [("queue", 1)]), plan)) == DONE
        assert (state(engine, 3), state(engine, 4)) == (1, 1)


def test_a_work_for_a_cpu_runs_there(engine: Engine) -> None:
    engine.run(Job(tasks([("queue_on_cpu", 2)])))
    assert [event.cpu for event in events(engine, "work_begin")] == [2]


def test_works_of_one_name_are_told_apart(engine: Engine) -> None:
    engine.run(Job(tasks([("queue", 1), ("queue_on_cpu", 1)])))
    assert texts(engine, "work_queue") == ["works[1]", "works[2]"]


# -- memory ----------------------------------------------------------------------------------------------------


def test_a_constructor_runs_on_every_object_of_a_cache(engine: Engine) -> None:
    engine.run(Job(tasks([("allocate_constructed", 0)] * 3)))
    assert complaints(engine) == []
    assert texts(engine, "object_alloc") == ["thing"] * 3


def test_the_nth_request_fails(engine: Engine) -> None:
    engine.run(Job(tasks([("allocate", 5)], [("allocate", 5)]), faults=[("kmalloc", 1, 3), ("pte_alloc", 2, 0)]))
    failed = [(event.task, event.b, event.c) for event in events(engine, "alloc_failed")]
    assert failed == [(1, "kmalloc", "3")]
    assert len(events(engine, "object_alloc")) == 9


def test_a_page_table_may_have_no_memory(engine: Engine) -> None:
    engine.run(Job(tasks([("map", 1), ("map", 2), ("map", 3)]), faults=[("pte_alloc", 1, 1)]))
    assert len(events(engine, "pte_set")) == 2


def test_a_request_that_may_sleep_says_so_and_one_that_may_not_does_not(engine: Engine) -> None:
    engine.run(Job(tasks([("allocate", 1), ("allocate_atomic", 0)])))
    assert texts(engine, "might_sleep") == ["kmalloc"]


def test_a_list_that_does_not_point_back_is_told(engine: Engine) -> None:
    engine.run(Job(tasks([("add_to_broken_list", 0)])))
    assert events(engine, "list_corrupt") == []
    engine.run(Job(tasks([("add_to_broken_list", 1)])))
    assert len(events(engine, "list_corrupt")) == 1
