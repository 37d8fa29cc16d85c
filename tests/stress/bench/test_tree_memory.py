# SPDX-License-Identifier: GPL-2.0-only
"""What is said of memory over many schedules, on steps and memory made up: no kernel tree needed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stressvmap.stress.bench.tree_memory import GROWTH_KIB, SAMPLES, Sample, growth_kib, main, samples


class Steps:
    """So many schedules a step."""

    def __init__(self, stride: int) -> None:
        self.schedules = 0
        self.stride = stride

    def step_screened(self) -> None:
        self.schedules += self.stride


def held(memory: Callable[[int], float]) -> list[Sample]:
    """The samples of a run of ten million whose memory is a function of the schedules run."""
    found: list[Sample] = []
    steps = Steps(50_000)
    samples(steps, 10_000_000, found.append, lambda: int(memory(steps.schedules)))
    return found


def test_samples_are_spread_evenly_over_the_run() -> None:
    found: list[Sample] = []
    samples(Steps(3), 3000, found.append, lambda: 1)
    assert [schedules for schedules, _ in found] == [150 * number for number in range(1, SAMPLES + 1)]


def test_a_byte_a_schedule_is_growth() -> None:
    assert growth_kib(held(lambda schedules: 80_000 + schedules / 1024)) > GROWTH_KIB


@pytest.mark.parametrize(
    "memory",
    [
        lambda schedules: 80_000,
        lambda schedules: 80_000 + min(schedules, 1_500_000) / 100,  # while it gets warm
        lambda schedules: 80_000 + (schedules // 50_000 % 7) * 300,  # up and down
    ],
    ids=["flat", "warm", "to and fro"],
)
def test_what_grows_at_the_start_or_to_and_fro_is_none(memory: Callable[[int], float]) -> None:
    assert growth_kib(held(memory)) <= GROWTH_KIB


def test_too_few_schedules_are_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schedules", "3"]) == 2
    assert "at least 20" in capsys.readouterr().err
