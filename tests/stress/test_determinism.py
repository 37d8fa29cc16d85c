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
    "v6.4": "c7b125b373d7476b4032c6fabae371799d41ab7ebfa6c03faf1156cc9b529c98",
    "rfc-3of3": "d46b4ce0da1ad8263e345865e73ac92a129e060baf68a35f91675ab18df337f2",
    "v6.5": "aa234eb255d4cf9de7cc27f177e02f97b0dde4eb95e430efb82efe9c9fd873ed",
}
"""SHA-256 of the journal of that execution.

They change whenever the model, a journal event, a runtime, the random strategy or the drawing of programs does: then
every seed and schedule number noted down anywhere means something else. If that is meant, put here what the failing
test prints, in the commit that causes it, and say so in its message. They are the same under every CPython.
"""

GOLDEN_BY_STRATEGY = {
    "random": "aac1256ce2441e86de6f2f81755bce6582e21f4cb9e326ef0b85646d8d966625",
    "sticky": "838f36ef620093faff3f8152fe79296d07a194287ea22a135e2a4117644423cd",
    "pct:3": "0f639224e011cc9a34450d0843b022a1237f55d90147dedb9f82a8ff09fb9349",
    "switch-points": "104b27b72cefb9bff780c887d1c2ff32472648e6b1a83c52229b148c2b252b7d",
    "pos": "f2918c5f6692e19dc6a9edcb926e27651fec2bb6da686d3e3ffcd2c787ee481d",
    "surw": "54485454569202956f3de39927a04fc6620bc09bc087d83b48f0b2ae30244223",
    "round-robin": "199fe963c57a5a55a91ed13c474ab3a7d091c38d5b86957ecf64c2edb69032b9",
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
