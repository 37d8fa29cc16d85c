# SPDX-License-Identifier: GPL-2.0-only
import re
import textwrap
import unittest
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

import stressvmap.testing.state_machine
from stressvmap.errors import ConfigError, PatchError
from stressvmap.kernel.function import kernel_function
from stressvmap.scenario import Scenario
from stressvmap.testing import VmapStateMachine, VmapViolation, known_fingerprints, machine, register_profiles
from stressvmap.vmalloc.base import Vmalloc
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5

FULL_BLOCK = "978ca5627c09"
FULL_BLOCK_WITNESS = "c0642e3f9cd7"
UNLOCKED_RANGE = "98c2b92cb425"
UNLOCKED_RANGE_BY_VFREE = "a3622169e9fe"
SEQUENTIAL = (FULL_BLOCK, FULL_BLOCK_WITNESS, UNLOCKED_RANGE, UNLOCKED_RANGE_BY_VFREE)
"""What calls that come one after the other show of v6.4; of the RFC only the first two."""


def calls_of(failure: BaseException) -> list[str]:
    """The steps of the falsifying example that Hypothesis printed."""
    steps = [line for note in failure.__notes__ for line in note.splitlines() if "state." in line]
    return [re.sub(r".*state\.", "", step) for step in steps if "teardown" not in step]


def run(one: type[VmapStateMachine], **changes: Any) -> None:
    run_state_machine_as_test(one, settings=settings(database=None, **changes))


def test_v6_5_shows_nothing_when_calls_come_one_after_the_other() -> None:
    run(machine("v6.5"))


@pytest.mark.parametrize(("version", "allow"), [(V6_4, SEQUENTIAL), (Rfc3of3, SEQUENTIAL[:2])])
def test_a_version_passes_with_its_known_fingerprints_allowed(version: type[Vmalloc], allow: tuple[str, ...]) -> None:
    run(machine(version, allow=(*allow, *known_fingerprints(version))), max_examples=50)


def test_hypothesis_finds_the_full_block_bug_from_scratch_and_shrinks_it_to_four_calls() -> None:
    """Seeded, and with a second chance: one run in twenty spends all 500 shrinks that Hypothesis allows too early."""
    without_it = [fingerprint for fingerprint in SEQUENTIAL if fingerprint != FULL_BLOCK]
    calls: list[str] = []
    for number in range(3):
        with pytest.raises(VmapViolation, match="fully used block: never visited") as caught:
            run(seed(number)(machine("v6.4", allow=without_it)), report_multiple_bugs=False)
        assert caught.value.fingerprint == FULL_BLOCK
        calls = calls_of(caught.value)
        if len(calls) <= 4:
            break
    assert len(calls) <= 4
    assert calls[-1] == "vm_unmap_aliases(task=1)"
    assert sum(call.startswith("vm_map_ram(pages=4, task=1)") for call in calls) == 2


def test_two_mechanisms_are_two_failures_for_hypothesis() -> None:
    one = machine("v6.4")(), machine("v6.4")()
    with pytest.raises(VmapViolation) as unlocked:
        unmap_a_part_of_a_block(one[0])
    with pytest.raises(VmapViolation) as missed:
        unmap_a_part_of_a_full_block(one[1])
    assert {unlocked.value.fingerprint, missed.value.fingerprint} == {UNLOCKED_RANGE, FULL_BLOCK}
    assert type(unlocked.value) is not type(missed.value)


def unmap_a_part_of_a_block(state: VmapStateMachine) -> None:
    first = state.vm_map_ram(task=1, pages=1)
    state.vm_map_ram(task=1, pages=1)
    state.vm_unmap_ram(task=1, mapping=first)
    state.vm_unmap_aliases(task=2)


def unmap_a_part_of_a_full_block(state: VmapStateMachine) -> None:
    first = state.vm_map_ram(task=1, pages=4)
    state.vm_map_ram(task=1, pages=4)
    state.read_mapped(task=2)
    state.vm_unmap_ram(task=2, mapping=first)
    state.vm_unmap_aliases(task=2)


def test_a_violation_that_is_allowed_does_not_end_the_run_and_its_witness_is_found() -> None:
    state = machine("v6.4", allow=[FULL_BLOCK])()
    unmap_a_part_of_a_full_block(state)
    with pytest.raises(VmapViolation) as caught:
        state.read_unmapped(task=2)
    assert caught.value.fingerprint == FULL_BLOCK_WITNESS
    assert "fingerprint c0642e3f9cd7: stale-access" in str(caught.value)


def test_a_check_that_is_not_asked_does_not_look() -> None:
    state = machine("v6.4", checks=["accounting", "leak"])()
    unmap_a_part_of_a_full_block(state)
    state.teardown()


def test_on_a_sparse_mask_v6_5_puts_a_block_where_no_walk_finds_it() -> None:
    """addr_to_vb_xa takes a hash for a CPU id; mended by a34acf30b19b in v6.10."""
    scenario = Scenario(cpus=2, possible=(0, 2), window_blocks=6)
    state = machine("v6.5", scenario, checks=["stale-after-unmap-aliases"])()
    state.vmalloc(task=1, pages=4)
    mapping = state.vm_map_ram(task=1, pages=4)
    state.vm_unmap_ram(task=1, mapping=mapping)
    with pytest.raises(VmapViolation, match="block on the free list: in an index that the walk left out"):
        state.vm_unmap_aliases(task=1)


# -- rules ------------------------------------------------------------------------------------------------


def names_in(state: VmapStateMachine) -> list[str]:
    return [str(event[5]) for event in state.machine.events]


def test_a_fault_strikes_the_next_call_that_asks_for_such_memory_and_only_once() -> None:
    state = machine("v6.5")()
    state.inject_fault(kind="kmalloc", nth=0)
    state.vm_unmap_aliases(task=1)
    state.vm_map_ram(task=2, pages=2)
    assert state.mapped == []
    state.vm_map_ram(task=2, pages=2)
    assert len(state.mapped) == 1
    state.teardown()


def test_a_mapping_of_which_only_a_prefix_could_be_mapped_leaves_a_debt_that_is_paid() -> None:
    state = machine("v6.5")()
    state.inject_fault(kind="pte_alloc", nth=2)
    state.vm_map_ram(task=1, pages=4)
    assert state.mapped == []
    state.vm_unmap_aliases(task=1)
    state.teardown()


def test_a_task_migrates_at_once_or_in_the_middle_of_its_next_call() -> None:
    state = machine("v6.5")()
    state.migrate(task=1, cpu=1, after_points=0)
    assert state.tasks[1].cpu == 1
    state.migrate(task=1, cpu=0, after_points=5)
    assert state.tasks[1].cpu == 1
    state.vm_unmap_aliases(task=2)
    assert state.tasks[1].cpu == 1
    state.vm_map_ram(task=1, pages=1)
    assert state.tasks[1].cpu == 0
    state.teardown()


def test_the_tasks_of_a_cpu_that_goes_offline_move_and_the_last_cpu_stays() -> None:
    state = machine("v6.5")()
    state.cpu_down(cpu=0)
    state.cpu_down(cpu=1)
    assert state.machine.online == [1]
    assert state.tasks[1].cpu == 1
    state.vm_map_ram(task=1, pages=4)
    state.cpu_up(cpu=0)
    assert state.machine.online == [0, 1]
    state.teardown()


def test_vfree_takes_what_either_vmalloc_returned() -> None:
    state = machine("v6.5")()
    plain, reset = state.vmalloc(task=1, pages=1), state.vmalloc_reset_perms(task=2, pages=2)
    state.vfree(task=2, area=plain)
    state.vfree(task=1, area=reset)
    assert (state.mapped, state.unmapped) == ([], [plain, reset])
    assert {"vfree", "vfree_reset"} <= set(names_in(state))
    state.teardown()


# -- a user's own ------------------------------------------------------------------------------------------


class ForgetsLargeMappings(V6_5):
    """One bug: the flush of what bypasses the blocks is forgotten where nothing else is to be flushed."""

    def free_unmap_vmap_area(self, va: Any) -> None:
        self.memory.vunmap_range_noflush(va.va_start, va.va_end)


class FlushesTwice(V6_5):
    """No bug, merely slow."""

    @kernel_function
    def vm_unmap_aliases(self) -> None:
        super().vm_unmap_aliases()
        super().vm_unmap_aliases()


def test_a_users_own_class_with_a_bug_is_caught() -> None:
    with pytest.raises(VmapViolation, match="stale-after-unmap-aliases") as caught:
        run(machine(ForgetsLargeMappings, checks=["stale-after-unmap-aliases"]), phases=(Phase.generate,))
    assert "area: never lazy" in str(caught.value) or "neither lazy nor flushed" in str(caught.value)


def test_a_users_own_class_without_a_bug_passes() -> None:
    run(machine(FlushesTwice), max_examples=30)


PATCH = """
from stressvmap.vmalloc.v6_5 import V6_5

class Raises(V6_5):
    def vb_free(self, addr, size):
        raise ValueError("no")
"""


def test_a_class_in_a_file_is_found_by_path_and_what_it_raises_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "patch.py").write_text(PATCH, encoding="utf-8")
    state = machine(f"{tmp_path}/patch.py:Raises")()
    mapping = state.vm_map_ram(task=1, pages=1)
    with pytest.raises(PatchError, match=r"patch\.py:6: Raises\.vb_free raised ValueError: no"):
        state.vm_unmap_ram(task=1, mapping=mapping)
    state.teardown()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": "v6.55"}, "did you mean v6.5"),
        ({"version": Vmalloc}, "Vmalloc does not inherit from a version"),
        ({"version": "v6.5", "checks": ["leaks"]}, "'leaks' is not one of"),
        ({"version": "v6.5", "scenario": Scenario(block_bits=7)}, "block_bits: 7 is not a power of two"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        machine(**arguments)


def test_the_example_of_the_docstring_runs() -> None:
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", stressvmap.testing.state_machine.__doc__ or "")
    namespace: dict[str, Any] = {}
    exec(textwrap.dedent(blocks[0]), namespace)
    case = namespace["TestPurgeFirst"]
    case.settings = settings(max_examples=20, database=None)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert (result.testsRun, result.failures, result.errors) == (1, [], [])


# -- profiles ----------------------------------------------------------------------------------------------


def test_the_profiles_differ_in_effort_and_only_ci_draws_the_same_each_time() -> None:
    register_profiles()
    dev, ci, nightly = (settings.get_profile(name) for name in ("dev", "ci", "nightly"))
    assert dev.max_examples < ci.max_examples < nightly.max_examples
    assert [profile.derandomize for profile in (dev, ci, nightly)] == [False, True, False]
    assert all(profile.deadline is None and profile.print_blob for profile in (dev, ci, nightly))
    assert all(Phase.explain not in profile.phases for profile in (dev, ci, nightly))
