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
    "v6.1": "d00fe1632d1249c435006eef82421524e6a4f2c7732400225439151b0a776fa5",
    "rfc-3of3-on-v6.1": "153fd8f1727795472dd59df1dde7d3c4a64ede5537ef0ae3a3f0f6d708e5f9f1",
    "v6.4": "ac54b4110b7aaae77ab3605e1dbbe1c50e9f3282bfe54e2750920990ec24238e",
    "rfc-3of3": "fcbfe367ffcd3978bf811d51de06da74b873c0e14c76526ab0a89285e7ffc169",
    "v6.5": "95c83379a72039d822d6222bba8206a1dd8d3b78e052911b40d48e959a550813",
    "v6.12": "9988d4e01b0be19d16100194a6c288057a07f57652345f780287dd4a723698d8",
}
"""SHA-256 of the journal of that execution.

They change whenever the model, a journal event, a runtime, the random strategy or the drawing of programs does: then
every seed and schedule number noted down anywhere means something else. If that is meant, put here what the failing
test prints, in the commit that causes it, and say so in its message. They are the same under every CPython.
"""

GOLDEN_BY_STRATEGY = {
    "random": "e0abef2371128ee9d799a6b1c92d6bae573c3602dc865273c86971678985a7d9",
    "sticky": "67f4bf4e09b03eee1cd4a13e4892832aa8271a20f93f1a5453dd1c349e20cd25",
    "pct:3": "738a01d2a3bf6120230165796b0ab18f5558a5ec517c9aff91be0960dc55a16e",
    "switch-points": "aa1ea7600676dc8c6f06b590ead86f2a3ec2a77ea020d51d21d8a7b8e6034812",
    "pos": "d25563de2c433bf9adab989fc9c037b6cdd30c5e88e878a967fba663bade4f9a",
    "surw": "540b834dfa34aa1b7a36a5c676ebe50dfa8ca505c70e1cfa0d6dc724fb93c38d",
    "round-robin": "c37e0eea1f35c157746ebf108e175055b100c6b6ebebac856633b2a51de94c8e",
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
