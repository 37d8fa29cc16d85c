# SPDX-License-Identifier: GPL-2.0-only
"""A verdict does not hang on the compiler: what gcc's code of a tree shows often, clang's shows, and the other way."""

import pytest

from stressvmap.config import RunSpec
from stressvmap.result import RunResult
from stressvmap.scenario import Scenario
from stressvmap.stress import harness
from stressvmap.tree.compiler import COMPILERS, program_of
from tests.tree.kernel_sources import archive

pytestmark = [
    pytest.mark.trees,
    pytest.mark.timeout(600),
    pytest.mark.skipif(any(program_of(family) is None for family in COMPILERS), reason="needs both gcc and clang"),
]

OFTEN = 20


@pytest.mark.parametrize("release", ["6.1", "6.12"])
def test_gcc_and_clang_show_the_same(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(release, monkeypatch)

    def run(family: str) -> RunResult:
        version = f"tree:{path}?cc={family}&races=configs/races-{release}.toml&known=configs/known-{release}.toml"
        return harness.run(RunSpec(version=version, scenario=Scenario(), schedules=1000, seed=1))

    results = [run(family) for family in COMPILERS]
    counts = [{one.fingerprint: one.count for one in result.findings} for result in results]
    assert [result.inconclusive for result in results] == [[], []]
    for mine, other in (counts, counts[::-1]):
        assert {fingerprint for fingerprint, count in mine.items() if count >= OFTEN} <= other.keys()
    assert all(one.known for result in results for one in result.findings)
    assert results[0].allowed_races.keys() == results[1].allowed_races.keys()
