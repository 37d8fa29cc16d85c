# SPDX-License-Identifier: GPL-2.0-only
import pytest

from stressvmap.checks.base import feed
from stressvmap.checks.records import AddressSpace, Space
from stressvmap.checks.registry import CHECK_NAMES, all_checks
from stressvmap.checks.state import State
from stressvmap.checks.windows import Windows
from stressvmap.errors import ConfigError
from stressvmap.journal import events as ev
from tests.checks.recording import BLOCK, Recording


def windows(j: Recording) -> dict[str, tuple[int, int]]:
    observer = Windows()
    feed(j.journal(), [observer])
    return observer.result()


def test_a_window_is_interrupted_by_a_step_of_another_task_only() -> None:
    j = Recording()
    j.lock(1, 5)
    j.read(1, 5, x=1)
    j.unlock(1, 5)
    j.lock(1, 5)
    j.read(2, 6, x=1)
    j.unlock(1, 5)
    assert windows(j)["vb-lock"] == (2, 1)


def test_steps_just_outside_a_window_do_not_count() -> None:
    j = Recording()
    j.read(2, 6, x=1)
    j.lock(1, 9, "vmap_purge_lock")
    j.unlock(1, 9, "vmap_purge_lock")
    j.read(2, 6, x=1)
    assert windows(j)["purge-lock"] == (1, 0)


def test_publication_runs_from_the_index_to_the_list() -> None:
    j = Recording()
    block = j.object(1, "vmap_block")
    j.add(ev.XA_STORE, 1, 3, 0, block)
    j.read(2, block, dirty=0)
    j.add(ev.LIST_ADD, 1, block, "free_list", 4)
    assert windows(j)["publication"] == (1, 1)


def test_clear_to_accounting_runs_from_the_clear_to_the_write_of_dirty() -> None:
    j = Recording()
    block = j.block(1)
    for entry in ("vm_unmap_ram", "vfree"):
        j.begin(1, entry, BLOCK, 1)
        j.clear(1, BLOCK)
        j.read(2, block, dirty=0)
        j.account(1, block, dirty=1)
        j.end(1, entry, BLOCK, 1)
    assert windows(j)["clear-to-accounting"] == (1, 1)


def test_checks_come_in_the_contracts_order_and_all_are_there() -> None:
    assert [check.NAME for check in all_checks(State())] == list(CHECK_NAMES)


def test_only_the_checks_asked_for_run() -> None:
    assert [check.NAME for check in all_checks(State(), only=("data-race", "leak"))] == ["leak", "data-race"]


def test_an_unknown_check_is_bad_usage() -> None:
    with pytest.raises(ConfigError, match="leek"):
        all_checks(State(), only=("leek",))


def test_address_space_finds_overlaps_and_keeps_the_rest() -> None:
    spaces = AddressSpace()
    event = (ev.SPACE_OUT, 1, 0, "", 0, "area", 0)
    assert not spaces.take(Space(10, 20, "area", 1, event))
    assert not spaces.take(Space(20, 30, "area", 2, event))
    assert [space.start for space in spaces.overlapping(15, 25)] == [10, 20]
    spaces.give_back(15, 25)
    assert [(space.start, space.end) for space in spaces.overlapping(0, 100)] == [(10, 15), (25, 30)]
    assert spaces.at(14) is not None
    assert spaces.at(15) is None


def test_a_state_serves_one_execution_after_another() -> None:
    one = Recording()
    one.map(1, BLOCK)
    one.unmap(1, BLOCK)
    other = Recording()
    other.aliases(1)
    state = State()
    checks = all_checks(state)
    feed(one.journal(), [state, *checks])
    feed(other.journal(), [state, *checks])
    assert not any(check.violations for check in checks)
    assert state.metrics()["unmap_aliases_calls"] == 1
