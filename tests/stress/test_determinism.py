# SPDX-License-Identifier: GPL-2.0-only
"""Under the controlled runtime an execution's journal is a function of (version, scenario, seed, execution)."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from stressvmap.scenario import WORKLOADS, Scenario
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress.engine import Engine
from stressvmap.stress.execution import Executor
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc import versions
from tests.stress.runs import digests, python, spec_of

GOLDEN_SCENARIO = Scenario(
    cpus=3, operations=12, reset_rate=0.5, vmalloc_rate=0.2, aliases_rate=0.1, migration_rate=0.1, fault_rate=0.1
)
GOLDEN_SEED = 2023
GOLDEN_EXECUTION = 4

GOLDEN = {
    "v6.1": "bbacfe7db12c3b751a67a76a103c447b54497995a2369bc1e40f65202a26fa9e",
    "rfc-3of3-on-v6.1": "0ab28419539e31788d2f25160026221779cc2b9300268033d0e3437c99d17f67",
    "v6.4": "19aff2506bdb7adb360cff66a2b6f69ddd1f97b9b80d7197d08c510850c1835b",
    "rfc-3of3": "60bd0a6ecf2151dc5c71182556c39d54b7fc7bb3a08ea7162a0b7473432104cd",
    "v6.5": "c0c19e007a64f9c3a0546d55eefc9b6d7ef7b6457c81c981eca8440300ea6647",
    "v6.12": "e16fae643c008ef03b8a29ed0a60cabd62e6ed6e57d82ac7451538a3303f5dfb",
}
"""SHA-256 of the journal of that execution.

They change whenever the model, a journal event, a runtime, the random strategy or the drawing of programs does: then
every seed and schedule number noted down anywhere means something else. If that is meant, put here what the failing
test prints, in the commit that causes it, and say so in its message. They are the same under every CPython.
"""

GOLDEN_BY_STRATEGY = {
    "random": "4e2207ee420bc921333feb9182cead40578ab2ede02fecd41f0e3f223b1c8f85",
    "sticky": "5c0184b280658d02344106b192424c0cabfbc1a99547799668ba978c3fa55566",
    "pct:3": "3876ccffbeb22804d76474ad86ffa0b34eac16ed142d1d6daa14a47d4a4b1f76",
    "switch-points": "4f796b8dd00db6663c2e55a1309cbffbea19b9074ff3f787249a3f813785bdc3",
    "pos": "82f92537231639775d0ce801a93a16750651f6a62227ce48abf63bbdd8d890dd",
    "surw": "0aaa8c9ff46d53bbc40900e20b890744b1ba6580e7c5e0564cfbc2e755e887ee",
    "round-robin": "cc6896eefc007d67e9b7575a5be4894df13f76db014146d23aedd86b0424d100",
}
"""SHA-256 of the digests of one execution of each workload on v6.5. Likewise."""

OTHER_PROCESS = """
    import sys
    from tests.stress.test_determinism import GOLDEN_BY_STRATEGY, digest_by_strategy, golden_digest
    for version in sys.argv[1:]:
        print(golden_digest(version))
    for strategy in GOLDEN_BY_STRATEGY:
        print(digest_by_strategy(strategy))
"""


def golden_digest(version: str) -> str:
    spec = spec_of(version, GOLDEN_SCENARIO, seed=GOLDEN_SEED)
    return digests(spec, [GOLDEN_EXECUTION])[0]


@pytest.mark.parametrize("version", versions.BUILT_IN)
def test_the_golden_execution_is_what_it_always_was(version: str) -> None:
    assert golden_digest(version) == GOLDEN[version]


def digest_by_strategy(name: str) -> str:
    whole = hashlib.sha256()
    for workload in WORKLOADS:
        scenario = replace(GOLDEN_SCENARIO, workload=workload)
        executor = Executor(versions.load("v6.5"), scenario)
        program = draw(scenario, GOLDEN_SEED, GOLDEN_EXECUTION)
        done = executor.run(program, make_strategy(name, GOLDEN_SEED), execution=GOLDEN_EXECUTION)
        whole.update(done.journal.digest().encode())
        executor.close()
    return whole.hexdigest()


@pytest.mark.parametrize("strategy", GOLDEN_BY_STRATEGY)
def test_each_strategy_decides_what_it_always_did(strategy: str) -> None:
    assert digest_by_strategy(strategy) == GOLDEN_BY_STRATEGY[strategy]


def test_another_process_with_another_hash_seed_gets_the_same_journals() -> None:
    here = [golden_digest(version) for version in versions.BUILT_IN]
    here += [digest_by_strategy(strategy) for strategy in GOLDEN_BY_STRATEGY]
    there = [python(OTHER_PROCESS, *versions.BUILT_IN, hash_seed=hash_seed) for hash_seed in (1, 4242)]
    assert [process.communicate()[0].split() for process in there] == [here, here]


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("version", versions.BUILT_IN)
def test_two_fresh_engines_get_the_same_journals(version: str, workload: str) -> None:
    spec = spec_of(version, replace(GOLDEN_SCENARIO, workload=workload), seed=7)
    assert digests(spec, range(3)) == digests(spec, range(3))


@pytest.mark.parametrize("version", versions.BUILT_IN)
def test_what_an_engine_ran_before_does_not_show(version: str) -> None:
    spec = spec_of(version, replace(GOLDEN_SCENARIO, workload="fill-block"), seed=3)
    forwards = digests(spec, range(6))
    assert digests(spec, reversed(range(6))) == forwards[::-1]
    assert [digests(spec, [execution])[0] for execution in range(6)] == forwards
    assert len(set(forwards)) == 6


@pytest.mark.parametrize("version", versions.BUILT_IN)
def test_an_execution_that_was_given_up_before_does_not_show(version: str) -> None:
    """Its tasks are unwound, and their greenlets used again."""
    spec = spec_of(version, GOLDEN_SCENARIO, seed=5)
    engine = Engine(spec, None)
    for steps_max in (150, 300, 600):
        engine.backend.scenario = replace(GOLDEN_SCENARIO, steps_max=steps_max)
        engine.step()
    assert engine.tally.gave_up > 0
    engine.backend.scenario = GOLDEN_SCENARIO
    engine.next = 0
    after = [engine.step().digest() for _ in range(2)]
    engine.finish()
    assert after == digests(spec, range(2))


def test_another_seed_is_another_journal() -> None:
    assert digests(spec_of(seed=1), [0]) != digests(spec_of(seed=2), [0])
