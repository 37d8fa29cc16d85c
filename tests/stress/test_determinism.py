# SPDX-License-Identifier: GPL-2.0-only
"""Under the controlled runtime an execution's journal is a function of (version, scenario, seed, execution)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stressvmap.scenario import WORKLOADS, Scenario
from stressvmap.stress.engine import Engine
from stressvmap.vmalloc import versions
from tests.stress.runs import digests, python, spec_of

GOLDEN_SCENARIO = Scenario(
    cpus=3, operations=12, reset_rate=0.5, vmalloc_rate=0.2, aliases_rate=0.1, migration_rate=0.1, fault_rate=0.1
)
GOLDEN_SEED = 2023
GOLDEN_EXECUTION = 4

GOLDEN = {
    "v6.4": "9089f65bdea8959fe1044dd37f7d6d3c86caca30aae3423724fbef561633e54a",
    "rfc-3of3": "8479f4fd17cebd8ccfcb0b492ed72ede8f66b113661481b318d60a67fcde3c9e",
    "v6.5": "48d591b7e08e24e5bd7e8cc93f654e002d5175ed3fd7fa118105906e21fbe0aa",
}
"""SHA-256 of the journal of that execution.

They change whenever the model, a journal event, a runtime, the random strategy or the drawing of programs does: then
every seed and schedule number noted down anywhere means something else. If that is meant, put here what the failing
test prints, in the commit that causes it, and say so in its message. They are the same under every CPython.
"""

OTHER_PROCESS = """
    import sys
    from tests.stress.test_determinism import golden_digest
    for version in sys.argv[1:]:
        print(golden_digest(version))
"""


def golden_digest(version: str) -> str:
    spec = spec_of(version, GOLDEN_SCENARIO, seed=GOLDEN_SEED)
    return digests(spec, [GOLDEN_EXECUTION])[0]


@pytest.mark.parametrize("version", versions.BUILT_IN)
def test_the_golden_execution_is_what_it_always_was(version: str) -> None:
    assert golden_digest(version) == GOLDEN[version]


def test_another_process_with_another_hash_seed_gets_the_same_journals() -> None:
    here = [golden_digest(version) for version in versions.BUILT_IN]
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
