# SPDX-License-Identifier: GPL-2.0-only
"""lock-discipline, deadlock and kernel-bug."""

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


def test_waiting_for_another_lock_of_the_same_class_is_no_recursion() -> None:
    j = Recording()
    j.lock(1, 5)
    j.add(ev.LOCK_WAIT, 1, 6, "vb->lock", 2)
    assert mechanisms(j) == []


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
