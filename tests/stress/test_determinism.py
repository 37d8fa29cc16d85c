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
    "v6.1": "a3f61d40864f9ceebc5f501e171ff29a49ac0342c293b7f078edd7799b735288",
    "rfc-3of3-on-v6.1": "4f8019b5f374ae667443a0674021723c0e6b011511925029fbd72cfd74c66655",
    "v6.4": "51fc7214c0ab487795c05d43722a5c4322444a750f7a3d2cefaf0d600523b39b",
    "rfc-3of3": "ac738b6b2d947c353b38ed921a45c4b3e0026319dad0c100df5d6f4f3bf66593",
    "v6.5": "90d1c036bb3176c0a4580a9f6ceec98679b85e05e6687b2e7da5f946dfb7daa8",
    "v6.12": "dc10456f27b8124c65ee7a36ef79cbceb60e7439e909511c00816df31c6d2fbb",
}
"""SHA-256 of the journal of that execution.

They change whenever the model, a journal event, a runtime, the random strategy or the drawing of programs does: then
every seed and schedule number noted down anywhere means something else. If that is meant, put here what the failing
test prints, in the commit that causes it, and say so in its message. They are the same under every CPython.
"""

GOLDEN_BY_STRATEGY = {
    "random": "3828e7e7ce60ef6982762450901af4547c6157aa12f481fdbb9fcade2f507fc1",
    "sticky": "ac858a0285e5eaf1189784f18f75de5c2633d42ca32b5ff79828d69bac19f21a",
    "pct:3": "7a2b9ec75f02e607828ee4de3b0313bbd23aa398b9ccf9dbbca767e21717da70",
    "switch-points": "e93b564b68b71b75abaafc7aa468d094d6e0aaa44daa2dd85e09f25ebb8d3b62",
    "pos": "23ce6472a57d410a62f887e405382ee4d3695fcf904b0bebad33b291eebcb439",
    "surw": "a6837e0a431719e04c130e085530b1116ee5248ddfae49ecfc30366718a1922a",
    "round-robin": "fdf4c6749bf84d049c78038dbef4cf3d6d11771eedf3facff1cbdb4245996573",
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
