# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stressvmap.errors import ConfigError
from stressvmap.journal.events import API_BEGIN, API_END
from stressvmap.kernel.slab import FAULT_KINDS
from stressvmap.program import (
    ALIASES,
    KINDS,
    MAP,
    OFFLINE,
    PAUSE,
    PROBE,
    SHRINK,
    TOUCH,
    UNMAP,
    VFREE,
    VFREE_ATOMIC,
    VMALLOC,
    VMALLOC_RESET,
    WALK,
    Fault,
    Migration,
    Program,
    ProgramOp,
    TaskProgram,
)
from stressvmap.scenario import SWARM, WORKLOADS, Scenario
from stressvmap.sched.sticky import StickyStrategy
from stressvmap.stress.engine import Engine
from stressvmap.stress.execution import Executor
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc import versions
from tests.stress.runs import TINY, python, spec_of

FILLS = (MAP, VMALLOC, VMALLOC_RESET)
EMPTIES = (UNMAP, VFREE)
EXECUTIONS = range(12)


def workers_of(program: Program) -> list[TaskProgram]:
    return [task for task in program.tasks if task.role == "worker"]


def bare(scenario: Scenario) -> Scenario:
    """Without the reads that any workload is sprinkled with."""
    return replace(scenario, witness=False)


def maps_and_unmaps(task: TaskProgram) -> list[ProgramOp]:
    return [op for op in task.ops if op.kind in FILLS + EMPTIES]


@st.composite
def scenarios(draw_from: st.DrawFn) -> Scenario:
    """Any small scenario; those that the kernel's constraints forbid are for `Scenario.validate` to refuse."""
    cpus = draw_from(st.integers(1, 4))
    possible = draw_from(st.just(()) | st.sets(st.integers(0, 11), min_size=cpus, max_size=cpus).map(sorted).map(tuple))
    block_bits = 1 << draw_from(st.integers(2, 10))
    rate = st.sampled_from((0.0, 0.05, 0.3, 1.0))
    return Scenario(
        workload=draw_from(st.sampled_from(WORKLOADS)),
        cpus=cpus,
        possible=possible,
        offline=draw_from(st.just(()) | st.tuples(st.sampled_from(possible or tuple(range(cpus))))),
        block_bits=block_bits,
        max_alloc=block_bits >> draw_from(st.integers(1, 6)),
        window_blocks=draw_from(st.sampled_from((2, 3, 24))),
        lazy_max=draw_from(st.sampled_from((0, 1, 24))),
        tasks_per_cpu=draw_from(st.integers(1, 2)),
        operations=draw_from(st.integers(1, 6)),
        slots=draw_from(st.sampled_from((1, 2, 6))),
        flushers=draw_from(st.integers(0, 2)),
        flushes=draw_from(st.sampled_from((0, 1, 3, 400))),
        large_rate=draw_from(rate),
        vmalloc_rate=draw_from(rate),
        reset_rate=draw_from(rate),
        aliases_rate=draw_from(rate),
        cross_rate=draw_from(rate),
        migration_rate=draw_from(rate),
        shrink_rate=draw_from(rate),
        fault_rate=draw_from(rate),
        debug_pagealloc=draw_from(st.booleans()),
        full_flush_ceiling_pages=draw_from(st.sampled_from((0, 1, 33))),
        witness=draw_from(st.booleans()),
    )


def is_valid(scenario: Scenario) -> bool:
    try:
        scenario.validate()
    except ConfigError:
        return False
    return True


# -- a program is a function of (scenario, seed, execution) -------------------------------------------------

DRAW = """
    import hashlib, json, sys
    from stressvmap.scenario import WORKLOADS, Scenario
    from stressvmap.stress.workloads import draw
    for workload in WORKLOADS:
        drawn = [draw(Scenario(workload=workload), 3, execution).as_dict() for execution in range(12)]
        print(hashlib.sha256(json.dumps(drawn).encode()).hexdigest())
"""


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_same_arguments_draw_the_same_program_and_others_another(workload: str) -> None:
    scenario = Scenario(workload=workload)
    drawn = [draw(scenario, seed, execution) for seed in (1, 2) for execution in EXECUTIONS]
    assert drawn == [draw(scenario, seed, execution) for seed in (1, 2) for execution in EXECUTIONS]
    assert len(set(drawn)) == len(drawn)


def test_programs_do_not_depend_on_the_hash_seed_or_the_process() -> None:
    here = []
    for workload in WORKLOADS:
        drawn = [draw(Scenario(workload=workload), 3, execution).as_dict() for execution in EXECUTIONS]
        here.append(hashlib.sha256(json.dumps(drawn).encode()).hexdigest())
    there = [python(DRAW, hash_seed=hash_seed) for hash_seed in (1, 4242)]
    assert [process.communicate()[0].split() for process in there] == [here, here]


def test_a_swarm_leaves_something_else_out_of_each_program() -> None:
    drawn = [draw(Scenario(workload=SWARM), 1, execution) for execution in range(60)]
    kinds = [{op.kind for task in program.tasks for op in task.ops} for program in drawn]
    optional = {VMALLOC, VMALLOC_RESET, VFREE_ATOMIC, SHRINK, WALK, OFFLINE}
    for kind in optional:
        assert 3 < sum(kind in of_one for of_one in kinds) < 54, kind
    assert {len(of_one & optional) for of_one in kinds} >= {2, 3, 4, 5}
    assert any(not program.faults for program in drawn)
    assert any(program.faults for program in drawn)


def test_atomic_frees_and_walks_come_at_their_rates_and_spare_what_resets() -> None:
    scenario = Scenario(
        operations=400, vmalloc_rate=0.6, reset_rate=0.3, walk_rate=0.25, atomic_free_rate=1.0, cross_rate=0.0
    )
    ops = [op for task in draw(scenario, 1, 1).tasks for op in task.ops]
    walks, others = sum(op.kind == WALK for op in ops), sum(op.kind != WALK for op in ops)
    assert 0.2 < walks / others < 0.3
    for task in draw(scenario, 1, 1).tasks:
        last: dict[int, str] = {}
        for op in task.ops:
            if op.kind == VFREE:
                assert last.get(op.slot) == VMALLOC_RESET
            elif op.kind == VFREE_ATOMIC:
                assert last.get(op.slot) != VMALLOC_RESET
            if op.kind in (VMALLOC, VMALLOC_RESET, VFREE, VFREE_ATOMIC):
                last[op.slot] = op.kind
    assert any(op.kind == VFREE_ATOMIC for op in ops)


# -- what holds for all of them -----------------------------------------------------------------------------


@given(scenarios().filter(is_valid), st.integers(0, 3))
@settings(max_examples=40)
def test_a_program_stays_within_its_scenario(scenario: Scenario, execution: int) -> None:
    program = draw(scenario, 1, execution)
    online = scenario.online_cpus()
    assert len(workers_of(program)) == len(online) * scenario.tasks_per_cpu
    assert len(program.tasks) == len(workers_of(program)) + scenario.flushers
    assert {task.cpu for task in program.tasks} <= set(online)
    for op in (op for task in program.tasks for op in task.ops):
        assert op.kind in KINDS
        assert op.slot >= 0
        if op.kind == MAP:
            may_be_large = scenario.large_rate or scenario.workload == SWARM  # whose rates are its own
            assert 1 <= op.pages <= (2 if may_be_large else 1) * scenario.max_alloc
        elif op.kind in FILLS:
            assert 1 <= op.pages <= max(3, scenario.max_alloc)
        elif op.kind == PAUSE:
            assert op.pages >= 0
    for fault in program.faults:
        assert 1 <= fault.task <= len(workers_of(program))
        assert fault.kind in FAULT_KINDS
        assert fault.nth >= 0
    for migration in program.migrations:
        assert 1 <= migration.task <= len(program.tasks)
        assert migration.cpu in online
        assert migration.point >= 1


@given(scenarios().filter(is_valid))
@settings(max_examples=30)
def test_every_valid_scenario_runs_on_every_version_and_finds_only_what_is_declared(scenario: Scenario) -> None:
    for version in versions.BUILT_IN:
        engine = Engine(spec_of(version, scenario), None)
        engine.step()
        tally = engine.finish()
        assert tally.gave_up == 0, tally.first_gave_up
        assert [finding.mechanism for finding in tally.findings.values() if not finding.known] == []


@given(
    st.builds(
        Program,
        st.lists(
            st.builds(
                TaskProgram,
                st.integers(0, 9),
                st.lists(
                    st.builds(ProgramOp, st.sampled_from(sorted(KINDS)), st.integers(0, 99), st.integers(0, 99))
                ).map(tuple),
                st.sampled_from(("worker", "flusher")),
            )
        ).map(tuple),
        st.lists(st.builds(Fault, st.sampled_from(FAULT_KINDS), st.integers(1, 9), st.integers(0, 9))).map(tuple),
        st.lists(st.builds(Migration, st.integers(1, 9), st.integers(0, 99), st.integers(0, 9))).map(tuple),
    )
)
@settings(max_examples=40)
def test_a_program_comes_back_from_json(program: Program) -> None:
    assert Program.from_dict(json.loads(json.dumps(program.as_dict()))) == program


def test_more_flushes_than_the_workers_make_steps_are_drawn_all_the_same() -> None:
    program = draw(replace(TINY, operations=1, flushes=51), 1, 0)
    assert sum(op.kind == ALIASES for op in program.tasks[-1].ops) == 51


def test_without_rates_there_are_no_faults_and_no_migrations() -> None:
    scenario = Scenario(fault_rate=0, migration_rate=0)
    for execution in EXECUTIONS:
        program = draw(scenario, 1, execution)
        assert (program.faults, program.migrations) == ((), ())


def test_nobody_migrates_where_one_cpu_is_online() -> None:
    scenario = Scenario(cpus=2, offline=(0,), migration_rate=1.0)
    assert all(draw(scenario, 1, execution).migrations == () for execution in EXECUTIONS)


def test_witnesses_read_what_is_mapped_and_what_was() -> None:
    kinds = [op.kind for execution in EXECUTIONS for task in draw(Scenario(), 1, execution).tasks for op in task.ops]
    assert TOUCH in kinds
    assert PROBE in kinds
    for execution in EXECUTIONS:
        task = workers_of(draw(Scenario(), 1, execution))[0]
        emptied: set[int] = set()
        for op in task.ops:
            if op.kind == UNMAP:
                emptied.add(op.slot)
            elif op.kind == PROBE:
                assert op.slot in emptied


# -- each has its shape -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block_bits", "max_alloc", "slots"), [(8, 4, 6), (8, 1, 1), (64, 2, 6), (64, 32, 6), (256, 8, 2)]
)
def test_fill_block_fills_blocks_completely_and_empties_them_out_of_order(
    block_bits: int, max_alloc: int, slots: int
) -> None:
    scenario = bare(Scenario(workload="fill-block", block_bits=block_bits, max_alloc=max_alloc, slots=slots))
    is_out_of_order = False
    for execution in EXECUTIONS:
        slots_of: list[set[int]] = []
        for task in workers_of(draw(scenario, 1, execution)):
            live: dict[int, int] = {}
            order: list[int] = []
            for op in maps_and_unmaps(task):
                if op.kind == MAP:
                    assert op.slot not in live
                    assert op.pages & (op.pages - 1) == 0, "a piece takes a power of two"
                    live[op.slot] = op.pages
                    order = []
                else:
                    if not order:
                        assert sum(live.values()) == block_bits
                        order = list(live)
                    is_out_of_order |= op.slot != next(iter(live))
                    del live[op.slot]
            assert not live
            slots_of.append({op.slot for op in maps_and_unmaps(task)})
        assert sum(map(len, slots_of)) == len(set().union(*slots_of)), "two workers share a slot"
    assert is_out_of_order


@pytest.mark.parametrize(("block_bits", "slots"), [(8, 6), (8, 1), (64, 6)])
def test_pinned_keeps_one_page_a_block(block_bits: int, slots: int) -> None:
    scenario = bare(Scenario(workload="pinned", block_bits=block_bits, max_alloc=4, slots=slots, operations=40))
    for execution in EXECUTIONS:
        program = draw(scenario, 1, execution)
        emptied = {op.slot for task in program.tasks for op in task.ops if op.kind == UNMAP}
        pins: list[int] = []
        for task in workers_of(program):
            used = 0
            blocks = 0
            for op in maps_and_unmaps(task):
                if op.kind == MAP and op.slot not in emptied:
                    assert op.pages == 1
                    assert used == (block_bits if blocks else 0), "a block is used up before the next is pinned"
                    pins.append(op.slot)
                    used, blocks = 1, blocks + 1
                elif op.kind == MAP:
                    used += 1 << (op.pages - 1).bit_length()
            assert used <= block_bits
            assert blocks >= 1
        assert len(set(pins)) == len(pins)


def test_fragment_is_the_reproducer_of_2015() -> None:
    scenario = bare(Scenario(workload="fragment", block_bits=1024, max_alloc=16, operations=4))
    for number, task in enumerate(workers_of(draw(scenario, 1, 0))):
        slot = number * scenario.slots
        one = [ProgramOp(MAP, slot, 16), ProgramOp(UNMAP, slot)]
        rest = [ProgramOp(MAP, slot, 8), ProgramOp(UNMAP, slot)] * ((1024 - 16) // 8 - 1)
        assert maps_and_unmaps(task) == one + rest


def test_cross_cpu_frees_on_another_cpu_than_it_maps() -> None:
    scenario = bare(Scenario(workload="cross-cpu", cpus=3, tasks_per_cpu=2))
    for execution in EXECUTIONS:
        workers = workers_of(draw(scenario, 1, execution))
        mapped_on = {op.slot: task.cpu for task in workers for op in task.ops if op.kind in FILLS}
        freed = [(op.slot, task.cpu) for task in workers for op in task.ops if op.kind in EMPTIES]
        assert freed
        assert all(mapped_on.get(slot) != cpu for slot, cpu in freed)


@pytest.mark.parametrize("slots", [1, 6])
def test_seccomp_teardown_frees_one_reset_page_and_eight_areas(slots: int) -> None:
    scenario = bare(Scenario(workload="seccomp-teardown", slots=slots))
    for execution in EXECUTIONS:
        taken: set[int] = set()
        for task in workers_of(draw(scenario, 1, execution)):
            resets = [op for op in task.ops if op.kind == VMALLOC_RESET]
            areas = [op.slot for op in task.ops if op.kind == VMALLOC]
            freed = [op.slot for op in task.ops if op.kind == VFREE]
            assert [op.pages for op in resets] == [1]
            assert len(set(areas)) == 8
            assert sorted(freed[:-1]) == sorted(areas)
            assert freed[-1] == resets[0].slot
            own = {op.slot for op in task.ops if op.kind in FILLS}
            assert not own & taken
            taken |= own


def test_churn_unmaps_what_it_mapped_at_once() -> None:
    scenario = bare(Scenario(workload="churn", vmalloc_rate=0.5))
    for execution in EXECUTIONS:
        for task in workers_of(draw(scenario, 1, execution)):
            ops = maps_and_unmaps(task)
            for fill, empty in zip(ops[::2], ops[1::2], strict=True):
                assert fill.kind in FILLS
                assert empty == ProgramOp(UNMAP if fill.kind == MAP else VFREE, fill.slot)


@pytest.mark.parametrize("cross_rate", [0.0, 1.0])
def test_mixed_touches_foreign_slots_at_its_cross_rate(cross_rate: float) -> None:
    scenario = bare(Scenario(cross_rate=cross_rate, aliases_rate=0.1))
    for execution in EXECUTIONS:
        for number, task in enumerate(workers_of(draw(scenario, 1, execution))):
            own = range(number * scenario.slots, (number + 1) * scenario.slots)
            assert all(op.slot in own for op in task.ops if op.kind in FILLS)
            assert all((op.slot in own) == (cross_rate == 0.0) for op in task.ops if op.kind in EMPTIES)


@pytest.mark.parametrize("workload", [name for name in WORKLOADS if name != SWARM])
def test_the_shrinkers_come_after_operations_at_their_rate_and_change_nothing_else_at_rate_0(workload: str) -> None:
    scenario = bare(Scenario(workload=workload))
    for execution in EXECUTIONS:
        plain = workers_of(draw(scenario, 1, execution))
        assert not [op for task in plain for op in task.ops if op.kind == SHRINK]
        for task in workers_of(draw(replace(scenario, shrink_rate=1.0), 1, execution)):
            assert {op.kind for op in task.ops[1::2]} == {SHRINK}
            assert SHRINK not in {op.kind for op in task.ops[::2]}


def test_flushing_has_several_calls_of_vm_unmap_aliases_under_way() -> None:
    """One flusher beside workers that never call it themselves has none."""
    shares = {}
    for workload in ("churn", "flushing"):
        scenario = Scenario(workload=workload, cpus=2)
        executor = Executor(versions.load("v6.5"), scenario)
        strategy = StickyStrategy(1)
        overlapping = 0
        for execution in EXECUTIONS:
            done = executor.run(draw(scenario, 1, execution), strategy, execution=execution)
            under_way = 0
            most = 0
            for event in done.journal.events:
                if event[5] == "vm_unmap_aliases" and event[0] in (API_BEGIN, API_END):
                    under_way += 1 if event[0] == API_BEGIN else -1
                    most = max(most, under_way)
            overlapping += most > 1
        executor.close()
        shares[workload] = overlapping / len(EXECUTIONS)
    assert shares["churn"] == 0
    assert shares["flushing"] > 0.8


def test_flushing_calls_it_after_its_own_unmappings() -> None:
    scenario = bare(Scenario(workload="flushing", vmalloc_rate=0.5))
    called = 0
    for execution in EXECUTIONS:
        for task in workers_of(draw(scenario, 1, execution)):
            assert task.ops[0].kind in FILLS
            for before, op in zip(task.ops, task.ops[1:], strict=False):
                assert (before.kind in FILLS) == (op.kind in EMPTIES)
                if op.kind == ALIASES:
                    assert before.kind in EMPTIES
                    called += 1
    assert called > len(EXECUTIONS)
