# SPDX-License-Identifier: GPL-2.0-only
"""lock-discipline, deadlock and kernel-bug."""

from stressvmap.checks.base import run_checks
from stressvmap.checks.lock_discipline import LockDiscipline
from stressvmap.checks.state import State
from stressvmap.journal import events as ev
from tests.checks.recording import ALIASES, Recording

LOCKS = "lock-discipline"
MUTEX = "vmap_purge_lock"


def mechanisms(j: Recording) -> list[str]:
    return [found.mechanism.mechanism for found in j.violations(LOCKS)]


def test_a_lock_taken_and_released_by_its_owner_is_clean() -> None:
    j = Recording()
    j.begin(1, ALIASES)
    j.add(ev.MIGHT_SLEEP, 1, 0, "mutex_lock", 0)
    j.lock(1, 9, MUTEX)
    j.add(ev.ASSERT_HELD, 1, 9, MUTEX)
    j.lock(1, 5)
    j.unlock(1, 5)
    j.add(ev.MIGHT_SLEEP, 1, 0, "kmalloc", 0)
    j.unlock(1, 9, MUTEX)
    j.end(1, ALIASES)
    assert mechanisms(j) == []


def test_a_lock_released_by_somebody_else() -> None:
    j = Recording()
    j.lock(1, 5)
    j.add(ev.UNLOCK, 2, 5, "vb->lock", 1)
    assert mechanisms(j) == ["unlocked by a task that does not hold it"]


def test_a_lock_acquired_by_its_holder() -> None:
    j = Recording()
    j.lock(1, 5)
    j.add(ev.LOCK_WAIT, 1, 5, "vb->lock", 1)
    assert mechanisms(j) == ["acquired again by its holder"]


def test_waiting_for_another_lock_of_the_same_class_is_no_recursion_but_nesting() -> None:
    j = Recording()
    j.lock(1, 5)
    j.add(ev.LOCK_WAIT, 1, 6, "vb->lock", 2)
    j.add(ev.LOCK, 1, 6, "vb->lock", 1)
    assert mechanisms(j) == ["taken inside another lock of its class"]
    j.unlock(1, 6)
    j.lock(1, 6)
    assert len(mechanisms(j)) == 1, "one pair of classes, one finding"


def test_two_locks_of_a_class_held_by_two_tasks_are_no_nesting() -> None:
    j = Recording()
    j.lock(1, 5)
    j.lock(2, 6)
    j.unlock(1, 5)
    j.unlock(2, 6)
    j.lock(1, 6)
    assert mechanisms(j) == []


def nest(j: Recording, task: int, *classes: str, how: int = 0) -> None:
    """Take locks of these classes, each inside the one before, `how` for the last one; each task's are its own."""
    for depth, lock_class in enumerate(classes):
        j.add(ev.LOCK, task, 100 * task + depth, lock_class, how if depth == len(classes) - 1 else 0)
    for depth, lock_class in reversed(list(enumerate(classes))):
        j.unlock(task, 100 * task + depth, lock_class)


def test_two_classes_taken_both_ways_round_though_the_locks_were_four() -> None:
    j = Recording()
    j.begin(1, "vm_map_ram")
    nest(j, 1, "vb->lock", "vbq->lock")
    j.begin(2, ALIASES)
    nest(j, 2, "vbq->lock", "vb->lock")
    found = j.violation(LOCKS)
    assert found.mechanism.text() == (
        "lock-discipline | vm_map_ram + vm_unmap_aliases | vbq->lock inside vb->lock inside vbq->lock "
        "| lock classes taken in a circle | holding vb->lock, vbq->lock"
    )
    assert "#1      worker/1 (task 1, CPU 0): takes vb->lock" in found.message
    assert "worker/2 (task 2, CPU 1): wants vb->lock while it holds vbq->lock" in found.message


def test_the_same_circle_has_one_fingerprint_whichever_order_came_first() -> None:
    first, second = Recording(), Recording()
    for j, order in ((first, (1, 2)), (second, (2, 1))):
        for task in order:
            nest(j, task, *(("a", "b") if task == 1 else ("b", "a")))
    assert first.violation(LOCKS).fingerprint == second.violation(LOCKS).fingerprint


def test_three_classes_in_a_circle() -> None:
    j = Recording()
    nest(j, 1, "a", "b")
    nest(j, 2, "b", "c")
    assert mechanisms(j) == []
    nest(j, 3, "c", "a")
    assert j.violation(LOCKS).mechanism.role == "c inside b inside a inside c"


def test_a_circle_is_seen_when_the_lock_is_waited_for_before_anybody_has_it() -> None:
    j = Recording()
    nest(j, 1, "a", "b")
    j.lock(2, 201, "b")
    j.add(ev.LOCK_WAIT, 2, 202, "a", 1)
    assert mechanisms(j) == ["lock classes taken in a circle"]


def test_a_trylock_inside_waits_for_nobody_and_makes_no_order() -> None:
    j = Recording()
    nest(j, 1, "a", "b")
    nest(j, 2, "b", "a", how=2)
    assert mechanisms(j) == []
    nest(j, 3, "b", "c")
    nest(j, 3, "c", "a")
    assert mechanisms(j) == ["lock classes taken in a circle"]


def test_an_order_of_one_execution_is_none_of_the_next() -> None:
    one, other = Recording(), Recording()
    nest(one, 1, "a", "b")
    nest(other, 1, "b", "a")
    state = State()
    check = LockDiscipline(state)
    for j in (one, other):
        assert run_checks(j.journal(), state, [check]).violations == []


def test_sleeping_with_a_spinlock_held_which_raises_the_preempt_count() -> None:
    j = Recording()
    j.lock(1, 5)
    j.add(ev.MIGHT_SLEEP, 1, 0, "kmalloc", 1)
    assert mechanisms(j) == ["may sleep while atomic"]


def test_sleeping_with_any_mutex_held_is_what_mutexes_are_for() -> None:
    j = Recording()
    j.lock(1, 5, "a_patch_s_own_mutex")
    j.add(ev.MIGHT_SLEEP, 1, 0, "mutex_lock", 0)
    j.unlock(1, 5, "a_patch_s_own_mutex")
    assert mechanisms(j) == []


def test_an_rcu_reader_may_be_preempted_but_not_sleep() -> None:
    j = Recording()
    j.add(ev.RCU_READ_LOCK, 1)
    j.lock(1, 5)
    j.unlock(1, 5)
    assert mechanisms(j) == []
    j.add(ev.MIGHT_SLEEP, 1, 0, "mutex_lock", 0)
    assert mechanisms(j) == ["may sleep in an RCU reader section"]


def test_a_lock_that_is_asserted_but_held_by_another_task() -> None:
    j = Recording()
    j.lock(2, 9, MUTEX)
    j.add(ev.ASSERT_HELD, 1, 9, MUTEX)
    assert mechanisms(j) == ["asserted but not held"]


def test_a_call_that_returns_with_a_lock_or_an_rcu_section_open() -> None:
    j = Recording()
    j.begin(1, "vm_map_ram")
    j.lock(1, 5)
    j.add(ev.RCU_READ_LOCK, 1)
    j.end(1, "vm_map_ram")
    assert mechanisms(j) == [
        "still held when the call returns",
        "RCU read lock unbalanced when the call returns",
    ]


# -- deadlock ---------------------------------------------------------------------------------------------


def test_two_tasks_that_wait_for_each_other() -> None:
    j = Recording()
    j.begin(1, "vm_map_ram")
    j.begin(2, ALIASES)
    j.lock(1, 5)
    j.lock(2, 9, MUTEX)
    j.add(ev.BLOCKED, 1, 9, MUTEX, 2)
    j.add(ev.BLOCKED, 2, 5, "vb->lock", 1)
    j.add(ev.STOPPED, 0, 0, "deadlock")
    found = j.violation("deadlock")
    assert found.mechanism.calls == ("vm_map_ram", ALIASES)
    assert found.mechanism.role == "vb->lock and vmap_purge_lock"
    assert "waits for vmap_purge_lock, held by worker/2 (task 2)" in found.message


def test_a_task_that_waits_for_what_nobody_will_do() -> None:
    j = Recording()
    j.begin(1, ALIASES)
    j.add(ev.BLOCKED, 1, 0, "answers to a TLB flush", 0)
    j.add(ev.STOPPED, 0, 0, "deadlock")
    assert j.violation("deadlock").mechanism.mechanism == "wait for what nobody will do"


def test_a_flush_whose_interrupt_waits_for_a_cpu_whose_task_waits_for_the_flusher() -> None:
    """Locks, CPUs and answers in one circle; the answer of the other CPU, which would come, opens nothing."""
    j = Recording(3)
    j.begin(1, ALIASES)
    j.begin(2, "vm_map_ram")
    j.lock(1, 9, MUTEX)
    for cpu in (0, 1):
        j.add(ev.BLOCKED, 1, 0, "answers to a TLB flush", 100 + cpu)
    j.add(ev.BLOCKED, 2, 9, MUTEX, 1)
    j.add(ev.BLOCKED, 100, 0, "CPU 0", 3)
    j.add(ev.BLOCKED, 101, 0, "CPU 1", 2)
    j.add(ev.STOPPED, 0, 0, "deadlock")
    found = j.violation("deadlock")
    assert found.mechanism.text() == (
        "deadlock | interrupts + vm_map_ram + vm_unmap_aliases | a CPU and answers to a TLB flush and vmap_purge_lock "
        "| tasks wait for each other in a circle | holding vmap_purge_lock"
    )
    assert "waits for answers to a TLB flush, owed by interrupts/1 (task 101)" in found.message
    assert "waits for CPU 1, occupied by worker/2 (task 2)" in found.message
    assert "interrupts/0" not in found.message, "it is blocked, but not in the circle"


def test_a_chain_that_ends_at_a_task_that_is_gone_is_no_circle() -> None:
    j = Recording(3)
    j.add(ev.BLOCKED, 1, 9, MUTEX, 2)
    j.add(ev.BLOCKED, 2, 5, "vb->lock", 3)
    j.add(ev.STOPPED, 0, 0, "deadlock")
    assert j.violation("deadlock").mechanism.mechanism == "wait for what nobody will do"


def test_a_run_that_was_cut_is_no_deadlock() -> None:
    j = Recording()
    j.add(ev.BLOCKED, 1, 9, MUTEX, 2)
    j.add(ev.STOPPED, 0, 0, "steps-max")
    assert not j.violations("deadlock")


# -- BUG and WARN -----------------------------------------------------------------------------------------


def test_a_bug_and_a_warning_of_the_code_itself() -> None:
    j = Recording()
    j.begin(1, "vm_unmap_ram")
    j.add(ev.BUG, 1, 0, "free_vmap_block: wrong block")
    j.add(ev.WARN, 1, 0, "va overlaps 0x1000")
    assert [found.mechanism.role for found in j.violations("kernel-bug")] == ["BUG_ON", "WARN_ON"]


def test_numbers_in_a_warning_are_no_part_of_its_fingerprint() -> None:
    fingerprints = set()
    for address in ("0x1000", "0x2000"):
        j = Recording()
        j.add(ev.WARN, 1, 0, f"va overlaps {address} of 12 pages")
        fingerprints.add(j.violation("kernel-bug").fingerprint)
    assert len(fingerprints) == 1
