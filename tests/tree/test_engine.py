# SPDX-License-Identifier: GPL-2.0-only
"""The tree backend's engine, on a little kernel and small programs of our own (tests/tree/programs)."""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from bisect import bisect
from itertools import product
from pathlib import Path

import pytest

from stressvmap.errors import ScheduleMismatch
from stressvmap.runtime.runtime import DEADLOCK, DONE, INTERRUPTED, STEPS_MAX
from stressvmap.runtime.strategy import Schedule
from stressvmap.sched.replay import ReplayStrategy
from tests.tree.engine_driver import COMPILER, FIRST, LAST, REASONS, ROOT, Engine, Event, Job, build_libraries

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler: the engine of the tree backend is not tested")

TWO_WRITERS = Job([(0, [("increment", 1)]), (1, [("increment", 1)])])
TWO_LOCKED_WRITERS = Job([(0, [("increment_locked", 1)]), (1, [("increment_locked", 1)])])
BUSY = Job(
    [
        (0, [("increment", 3), ("raise_irq", 1), ("lock_twice", 2), ("draw_points", 5), ("read_after_free", 7)]),
        (1, [("pinned_points", 4), ("wake_daemon", 0), ("move_to", 0), ("increment_locked", 2), ("dirty", 9)]),
        (1, [("irqs_off_points", 3), ("raise_irq", 0), ("increment_locked", 2), ("read_unwritten", 1)]),
    ],
    faults=[("kmalloc", 1, 1)],
    migrations=[(1, 1, 9), (3, 0, 4)],
)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build_libraries(tmp_path_factory.getbasetemp() / "engine")


@pytest.fixture(scope="module", params=["native", "ucontext"])
def engine(libraries: dict[str, Path], request: pytest.FixtureRequest) -> Engine:
    return Engine(libraries[request.param])


@pytest.fixture(scope="module")
def native(libraries: dict[str, Path]) -> Engine:
    return Engine(libraries["native"])


@pytest.fixture(scope="module")
def marked(libraries: dict[str, Path]) -> Engine:
    return Engine(libraries["native"], points_all=False)


def final_count(journal: list[Event]) -> int:
    return int([event for event in journal if event.name == "write" and event.task != 900][-1].c)


def names(journal: list[Event], task: int = 1) -> list[str]:
    return [event.name for event in journal if event.task == task]


def texts(journal: list[Event], name: str) -> list[str | int]:
    return [event.b for event in journal if event.name == name]


def random_plan(seed: int, steps: int = 30) -> list[tuple[int, int]]:
    numbers = random.Random(f"plan/{seed}")
    return [(numbers.randrange(1 << 32), numbers.randrange(1, 8)) for _ in range(steps)]


def small_plans() -> list[list[tuple[int, int]]]:
    steps = list(product((FIRST, LAST), (1, 2, 3)))
    return [list(plan) for plan in product(steps, repeat=3)]


def with_plan(job: Job, plan: list[tuple[int, int]], draw_seed: int = 1) -> Job:
    return Job(job.tasks, plan, job.faults, job.migrations, draw_seed)


# -- scheduling ------------------------------------------------------------------------------------------------


def test_a_counter_without_a_lock_loses_an_update_under_some_schedule(engine: Engine) -> None:
    counts = set()
    for plan in small_plans():
        assert engine.run(with_plan(TWO_WRITERS, plan)) == DONE
        counts.add(final_count(engine.journal()))
    assert counts == {1, 2}


def test_it_loses_none_without_a_switch_nor_with_a_lock(engine: Engine) -> None:
    assert engine.run(TWO_WRITERS) == DONE
    assert final_count(engine.journal()) == 2
    for plan in small_plans():
        assert engine.run(with_plan(TWO_LOCKED_WRITERS, plan)) == DONE
        assert final_count(engine.journal()) == 2


def test_plain_accesses_are_recorded_but_no_points_where_only_marked_ones_are(marked: Engine) -> None:
    for plan in small_plans():
        assert marked.run(with_plan(TWO_WRITERS, plan)) == DONE
        assert final_count(marked.journal()) == 2
    assert marked.points() == 0
    assert names(marked.journal()) == ["read", "write"]
    marked.run(Job([(0, [("write_sizes", 0), ("read_racy", 0)])]))
    assert marked.points() == 3  # a volatile write, and in data_race() a read and a write


def test_choices_and_draws_replay_to_the_same_journal(engine: Engine) -> None:
    for seed in range(100):
        engine.run(with_plan(BUSY, random_plan(seed), seed))
        journal, choices, draws = engine.journal(), engine.choices(), engine.draws()
        replay = ReplayStrategy(Schedule(choices, draws))
        assert engine.run_under(BUSY, replay) == DONE
        replay.check_used_up(engine.points())
        assert (engine.choices(), engine.draws()) == (choices, draws)
        assert engine.journal() == journal


def test_a_schedule_that_does_not_fit_is_a_mismatch(native: Engine) -> None:
    native.run(with_plan(BUSY, random_plan(3)))
    schedule = Schedule(native.choices(), native.draws())
    with pytest.raises(ScheduleMismatch):
        native.run_under(TWO_LOCKED_WRITERS, ReplayStrategy(schedule))


def test_an_answer_that_names_a_task_that_is_not_enabled_ends_the_run_with_an_error(native: Engine) -> None:
    assert native.run_decided(TWO_WRITERS, lambda why: 77 << 40 | 1, lambda n: 0) == INTERRUPTED
    assert "task 77" in native.error()
    assert native.run(TWO_WRITERS) == DONE
    assert native.error() == ""


def test_a_plan_gives_the_same_journal_in_every_process(libraries: dict[str, Path], native: Engine) -> None:
    job = with_plan(BUSY, random_plan(5))
    command = [sys.executable, "-m", "tests.tree.engine_driver", str(libraries["native"]), job.as_json()]
    runs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    first, second = (run.communicate()[0] for run in runs)
    assert first == second
    reason, choices, draws, journal = json.loads(first)
    assert reason == DONE
    assert len(journal) > 50
    assert native.run(job) == DONE  # in a process that has run much else
    assert ([list(choice) for choice in native.choices()], native.draws()) == (choices, draws)
    assert [Event(**event) for event in journal] == native.journal()


def test_where_operations_began_is_known(native: Engine) -> None:
    native.run(Job([(0, [("points", 3), ("points", 2), ("points", 0)]), (1, [("points", 1)])]))
    assert native.starts(1) == ([0, 3, 5], [0, 3, 5])
    assert native.starts(2) == ([0], [5])
    assert native.lib.sv_operations() == 4


def test_an_injected_failure_happens_where_it_was_asked_for(native: Engine) -> None:
    native.run(Job([(0, [("may_fail", 3)]), (1, [("may_fail", 3)])], faults=[("kmalloc", 2, 1)]))
    failed = [event for event in native.journal() if event.name == "alloc_failed"]
    assert [(event.task, event.b, event.c) for event in failed] == [(2, "kmalloc", "1")]


# -- what a run leaves behind ----------------------------------------------------------------------------------


def test_a_run_begins_from_the_same_state_whatever_ran_before(engine: Engine) -> None:
    job = with_plan(BUSY, random_plan(11))
    engine.run(job)
    journal = engine.journal()
    for case in engine.cases:
        if not case.startswith(("loop", "interrupt")):
            engine.run(Job([(0, [(case, 1)]), (1, [("dirty", 1)])]))
        engine.load(job)
        assert [engine.lib.state(number) for number in range(6)] == [7, 0, 3, 0, 0, 1]
        assert engine.run(job) == DONE
        assert engine.journal() == journal, case


def resident_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_memory_stays_flat_over_many_runs(native: Engine) -> None:
    native.load(BUSY)
    native.lib.sv_engine_bench(ctypes.c_uint64(1_000), ctypes.c_uint64(1), 5)
    before = resident_kib()
    points = native.lib.sv_engine_bench(ctypes.c_uint64(100_000), ctypes.c_uint64(2), 5)
    assert points > 10_000_000
    assert resident_kib() - before < 512


def test_without_points_and_journal_the_code_runs_the_same(native: Engine) -> None:
    job = Job([(0, [("increment", 5), ("increment_locked", 3), ("dirty", 2)])])
    native.lib.sv_set_bare(1)
    try:
        assert native.run(job) == DONE
        assert native.journal() == []
    finally:
        native.lib.sv_set_bare(0)
    assert native.run(job) == DONE
    assert len(native.journal()) > 20


def test_a_run_needs_a_program_of_its_own(native: Engine) -> None:
    native.run(TWO_WRITERS)
    assert native.lib.sv_run() == REASONS.index(INTERRUPTED)
    assert "no program is loaded" in native.error()


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        (1, "boot: NULL pointer dereference"),
        (2, "boot: an endless loop"),
        (3, "boot: a wait for another task, where there is none"),
        (4, "boot: a BUG at boot"),
    ],
)
def test_a_boot_that_goes_wrong_is_an_error(libraries: dict[str, Path], slots: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=f"^{message}$"):
        Engine(libraries["native"], slots=slots)


def test_a_library_boots_once(native: Engine) -> None:
    assert native.lib.sv_boot(ctypes.byref(native.config)) == -1
    assert native.error() == "the machine is booted already"
    assert native.run(TWO_WRITERS) == DONE


def test_no_event_is_kept_where_none_is_wanted(libraries: dict[str, Path], native: Engine) -> None:
    job = with_plan(BUSY, random_plan(2))
    native.run(job)
    silent = Engine(libraries["native"], keeps_events=False)
    assert silent.run(job) == DONE
    assert (silent.choices(), silent.points(), silent.journal()) == (native.choices(), native.points(), [])


# -- crashes and endless loops ---------------------------------------------------------------------------------

CRASHES = {
    "read_null": "NULL pointer dereference",
    "write_null": "NULL pointer dereference",
    "call_null": "NULL pointer dereference",
    "read_wild": "wild pointer dereference at 0x123456789abcdef0",
    "read_uninitialised_pointer": "uninitialised pointer dereference",
    "read_error_pointer": "error pointer dereference",
    "divide": "divide error",
    "abort_here": "abort",
    "trap": "illegal instruction",
    "overflow": "stack overflow",
    "take_lock_and_die": "a task dies with its lock",
}


@pytest.mark.parametrize("case", CRASHES)
def test_a_crash_kills_the_task_and_the_others_go_on(engine: Engine, case: str) -> None:
    job = Job([(0, [("increment", 1), (case, 0), ("increment", 1)]), (1, [("increment", 2)])])
    assert engine.run(job) == DONE
    journal = engine.journal()
    [bug] = [event for event in journal if event.name == "bug"]
    assert (bug.task, bug.b) == (1, CRASHES[case])
    assert bug.pc != journal[0].pc  # not where it was before
    assert names(journal)[-1] == "bug"
    assert names(journal, 2) == ["read", "write"] * 2
    assert engine.lib.sv_flags() & 1
    assert engine.run(TWO_WRITERS) == DONE
    assert final_count(engine.journal()) == 2
    assert engine.lib.sv_flags() == 0


@pytest.mark.parametrize("case", CRASHES)
def test_it_is_told_the_same_where_only_marked_accesses_are_points(marked: Engine, case: str) -> None:
    marked.run(Job([(0, [(case, 0)])]))
    assert texts(marked.journal(), "bug") == [CRASHES[case]]


def test_a_write_to_what_is_constant_is_told_the_same_wherever_the_library_lies(native: Engine) -> None:
    native.run(Job([(0, [("write_constant", 0)])]))
    [what] = texts(native.journal(), "bug")
    assert str(what).startswith("wild pointer dereference at the library's 0x")
    assert "write" not in names(native.journal())  # it has not happened


def test_who_waits_for_the_lock_of_a_dead_task_is_named(engine: Engine) -> None:
    assert engine.run(Job([(0, [("take_lock_and_die", 0)]), (1, [("increment_locked", 1)])])) == DEADLOCK
    blocked, stopped = engine.journal()[-2:]
    assert (blocked.name, blocked.task, blocked.b, blocked.c) == ("blocked", 2, "test_lock", "1")
    assert (stopped.name, stopped.b) == ("stopped", "bug")


def test_a_task_that_nobody_wakes_is_a_deadlock(engine: Engine) -> None:
    assert engine.run(Job([(0, [("sleep_for_ever", 0)]), (1, [("increment", 1)])])) == DEADLOCK
    assert texts(engine.journal(), "blocked") == ["nothing"]
    assert texts(engine.journal(), "stopped") == ["deadlock"]


@pytest.mark.parametrize(("case", "points_all"), [("loop_quiet", True), ("loop_plain", True), ("loop_volatile", True)])
def test_an_endless_loop_ends_the_run_and_the_next_is_as_new(engine: Engine, case: str, points_all: bool) -> None:
    start = time.process_time()
    assert engine.run(Job([(0, [("increment", 1), (case, 0)]), (1, [("increment", 1)])])) == STEPS_MAX
    assert time.process_time() - start < 2
    runnable, waiting, stopped = engine.journal(last=3)
    assert (runnable.name, runnable.task, waiting.task, stopped.b) == ("runnable", 1, 2, "steps-max")
    assert runnable.pc
    choices = engine.choices()
    assert engine.run(TWO_WRITERS) == DONE
    assert final_count(engine.journal()) == 2
    if case != "loop_quiet":
        return
    replay = ReplayStrategy(Schedule(choices, []))
    assert engine.run_under(Job([(0, [("increment", 1), (case, 0)]), (1, [("increment", 1)])]), replay) == STEPS_MAX
    assert engine.choices() == choices


def test_an_endless_loop_of_accesses_that_are_no_points_ends_too(marked: Engine) -> None:
    before = resident_kib()
    assert marked.run(Job([(0, [("loop_plain", 0)])])) == STEPS_MAX
    assert resident_kib() > before + 50_000
    assert [event.name for event in marked.journal(last=2)] == ["runnable", "stopped"]
    assert marked.run(TWO_WRITERS) == DONE
    assert len(marked.journal()) < 10
    assert resident_kib() < before + 30_000  # what that run needed is given back


def test_many_short_runs_are_no_endless_loop(native: Engine) -> None:
    native.load(TWO_WRITERS)
    assert native.lib.sv_engine_bench(ctypes.c_uint64(300_000), ctypes.c_uint64(1), 1) == 300_000 * 4


def test_a_thread_or_a_child_process_that_runs_tasks_gets_the_same_protection(native: Engine) -> None:
    jobs = [(Job([(0, [("overflow", 0)])]), DONE), (Job([(0, [("loop_quiet", 0)])]), STEPS_MAX)]

    def is_safe() -> bool:
        return [native.run(job) for job, _ in jobs] == [reason for _, reason in jobs]

    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(is_safe()))
    thread.start()
    thread.join()
    assert answers == [True]
    assert is_safe()
    child = os.fork()
    if not child:
        os._exit(0 if is_safe() else 1)
    assert os.waitpid(child, 0)[1] == 0


TICKS_OF_MANY = """
    import signal, time
    from pathlib import Path
    from tests.tree.engine_driver import Engine, Job
    engines = [Engine(Path({library!r})) for _ in range(60)]
    for engine in engines:
        engine.run(Job([(0, [("increment", 1)])]))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGVTALRM])
    until = time.thread_time() + 0.3
    while time.thread_time() < until:
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGVTALRM])
    print([engine.run(Job([(0, [("loop_quiet", 0)])])) for engine in engines[-2:]])
"""


def test_ticks_of_many_libraries_that_come_together_are_taken_one_by_one(libraries: dict[str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TICKS_OF_MANY.format(library=str(libraries["native"])))],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{[STEPS_MAX, STEPS_MAX]}\n"), done.stderr


def test_a_crash_while_no_task_runs_is_whose_it_was_before(libraries: dict[str, Path]) -> None:
    lines = [
        "import ctypes, faulthandler, resource",
        "from pathlib import Path",
        "from tests.tree.engine_driver import Engine, Job",
        "faulthandler.enable()",
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
        f"engine = Engine(Path({str(libraries['native'])!r}))",
        "engine.run(Job([(0, [('overflow', 0)])]))",
        "ctypes.string_at(0)",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGSEGV
    assert b"Fatal Python error: Segmentation fault" in done.stderr


def test_ctrl_c_while_a_task_runs_reaches_python_after_the_run(native: Engine) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in what a shell put behind
    try:
        with pytest.raises(KeyboardInterrupt):
            native.run(Job([(0, [("interrupt_here", 1)])]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert names(native.journal()) == ["read", "write"]
    assert native.run(TWO_WRITERS) == DONE


def test_a_run_stops_at_its_next_point_when_it_is_asked_to(engine: Engine) -> None:
    assert engine.run(Job([(0, [("points", 5), ("ask_to_stop", 100)])])) == INTERRUPTED
    assert engine.points() == 6
    assert texts(engine.journal(), "stopped") == ["interrupted"]

    def stop_from_a_thread(why: int) -> int:
        thread = threading.Thread(target=engine.lib.sv_request_stop)
        thread.start()
        thread.join()
        return 1 << 40 | 1_000

    assert engine.run_decided(Job([(0, [("points", 100)])]), stop_from_a_thread, lambda n: 0) == INTERRUPTED
    assert engine.run(TWO_WRITERS) == DONE


# -- what an access says ---------------------------------------------------------------------------------------


def test_a_write_tells_the_value_of_every_size(native: Engine) -> None:
    native.run(Job([(0, [("write_sizes", 0), ("write_unaligned", 0)])]))
    writes = [event for event in native.journal() if event.task == 1]
    assert [(event.b, int(event.c)) for event in writes] == [
        (1, 0x81),
        (2, 0x8283),
        (4, 0x84858687),
        (8, 0x88898A8B8C8D8E8F),
        (4, 7),
        (8, 0x1122334455667788),
    ]
    assert [event.name for event in writes] == ["write"] * 4 + ["write_once", "write"]


def test_a_use_after_free_is_told_at_the_access(native: Engine) -> None:
    native.run(Job([(0, [("read_after_free", 5)])]))
    journal = native.journal()
    assert names(journal) == ["object_alloc", "write", "object_free", "dead_access", "read", "write"]
    dead, read = journal[3:5]
    assert (dead.a, dead.b, dead.c) == ("1.1+8", 4, "1")
    assert (read.a, read.c, read.pc) == (dead.a, "5", dead.pc)
    native.run(Job([(0, [("write_after_free", 5)])]))
    assert names(native.journal()) == ["object_alloc", "object_free", "dead_access", "write"]
    native.run(Job([(0, [("free_twice", 5)])]))
    assert names(native.journal()) == ["object_alloc", "object_free", "dead_access"]
    assert native.lib.sv_flags() == 4


def test_who_allocated_and_who_freed_is_told_with_the_calls_that_led_there(native: Engine) -> None:
    native.run(Job([(0, [("read_after_free", 5)])]))
    [address] = [address for address, _, number in native.objects() if number == 1 << 20 | 1]
    symbols = native.symbols()

    def function_of(place: int) -> str:
        return symbols[bisect([at for at, _ in symbols], place - 1) - 1][1]

    allocated, freed = ([function_of(at) for at in native.stack(address, is_free=free)] for free in (False, True))
    assert allocated == ["make", "case_read_after_free", "sv_perform"]
    assert freed == ["case_read_after_free", "sv_perform"]


def test_only_bytes_that_nobody_wrote_are_uninitialised(native: Engine) -> None:
    native.run(Job([(0, [("read_unwritten", 5)])]))
    journal = native.journal()
    told = ["object_alloc", "write", "read", "write", "uninitialised", "read", "write", "write", "read", "write"]
    assert names(journal) == told
    assert (journal[4].a, journal[5].c) == ("1.1+12", str(0x6B6B6B6B))


def test_an_access_beyond_an_object_is_a_warning(native: Engine) -> None:
    native.run(Job([(0, [("read_beyond", 0)])]))
    assert texts(native.journal(), "warn") == ["access beyond the end of an object"]


def test_plain_accesses_to_the_own_stack_are_nobody_elses_business(native: Engine) -> None:
    native.run(Job([(0, [("use_stack", 3)])]))
    assert names(native.journal()) == []
    native.run(Job([(0, [("share_stack", 1)]), (1, [("share_stack", 1)])], [(FIRST, 20), (LAST, 100)]))
    assert names(native.journal(), 2) == ["read", "read", "write"]  # those to the other's are


def test_a_variable_on_the_stack_that_nobody_wrote_reads_the_same_after_any_run(engine: Engine) -> None:
    for n in (100, 4000):
        engine.run(Job([(0, [("read_from_stack", n)])]))
        before = engine.journal()
        engine.run(Job([(0, [("leave_on_stack", 7)])]))
        engine.run(Job([(0, [("read_from_stack", n)])]))
        assert engine.journal() == before
        assert final_count(before) == 0x6B6B6B6B6B6B6B6B


def test_a_plain_access_in_data_race_is_a_marked_one(native: Engine) -> None:
    native.run(Job([(0, [("read_racy", 0), ("increment", 1)])]))
    assert [(event.name, event.flags) for event in native.journal() if event.task == 1] == [
        ("read_once", 2),
        ("write_once", 2),
        ("read", 0),
        ("write", 0),
    ]


def test_an_atomic_operation_is_one_step_and_tells_the_value_after_it(native: Engine) -> None:
    native.run(Job([(0, [("atomics", 1)])]))
    told = [(event.name, event.c) for event in native.journal() if event.task == 1]
    assert told == [("atomic", "1"), ("atomic", "9"), ("read_once", "9"), ("write_once", "18")]
