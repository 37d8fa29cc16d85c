# SPDX-License-Identifier: GPL-2.0-only
"""Uses of shared things, the order they imply, and which pairs of steps could have come the other way round."""

from __future__ import annotations

import pytest

from stressvmap.runtime.access import ADDS, CHANGES, FREES, LOOKS, NEEDS, SEIZES, TAKES, Key
from stressvmap.sched.footprint import HappensBefore, are_dependent, combine

ALL = (LOOKS, ADDS, CHANGES, TAKES, FREES, NEEDS, SEIZES)


@pytest.mark.parametrize("use", ALL)
@pytest.mark.parametrize("other", ALL)
def test_only_uses_of_one_commuting_kind_are_independent(use: int, other: int) -> None:
    commutes = use == other and use in (LOOKS, ADDS, FREES, NEEDS)
    assert are_dependent({"x": use}, {"x": other}) == (not commutes)
    assert not are_dependent({"x": use}, {"y": other})


@pytest.mark.parametrize(
    ("uses", "together"),
    [
        ((LOOKS, LOOKS), LOOKS),
        ((LOOKS, ADDS), CHANGES),
        ((CHANGES, LOOKS), CHANGES),
        ((NEEDS, TAKES), TAKES),
        ((TAKES, NEEDS), TAKES),
        ((NEEDS, FREES), FREES),
        ((TAKES, FREES), CHANGES),
    ],
)
def test_two_uses_in_one_step_are_as_strong_as_the_stronger(uses: tuple[int, ...], together: int) -> None:
    footprint: dict[Key, int] = {}
    for use in uses:
        combine(footprint, "x", use)
    assert footprint == {"x": together}


def test_neighbouring_conflicts_race_and_those_with_a_step_between_do_not() -> None:
    order = HappensBefore([1, 2, 3])
    assert order.push(1, {"x": CHANGES}) == []
    assert order.push(2, {"x": CHANGES, "y": CHANGES}) == [0]
    assert order.push(3, {"x": LOOKS, "y": LOOKS}) == [1]
    assert order.push(1, {"z": CHANGES}) == []


def test_an_acquire_races_with_the_acquire_before_the_release_not_with_the_release() -> None:
    order = HappensBefore([1, 2])
    order.push(1, {"lock": TAKES})
    order.push(1, {"lock": FREES})
    assert order.push(2, {"lock": TAKES}) == [0]


def test_an_acquire_does_not_race_if_its_task_was_woken_from_inside_the_critical_section() -> None:
    order = HappensBefore([1, 2])
    order.push(1, {"lock": TAKES})
    order.push(1, {"wake": FREES})
    order.push(1, {"lock": FREES})
    assert order.push(2, {"wake": NEEDS, "lock": TAKES}) == []


def test_a_trylock_races_with_the_release() -> None:
    order = HappensBefore([1, 2])
    order.push(1, {"lock": TAKES})
    order.push(1, {"lock": FREES})
    assert order.push(2, {"lock": SEIZES}) == [1]


def test_what_is_popped_leaves_no_trace() -> None:
    order = HappensBefore([1, 2])
    order.push(1, {"lock": TAKES, "x": CHANGES})
    before = order.class_hash()
    for _ in range(2):
        races = order.push(2, {"x": LOOKS, "y": CHANGES, "lock": TAKES})
        order.pop()
    assert races == [0]
    assert order.class_hash() == before
    assert order.push(2, {"y": CHANGES}) == []


def test_executions_of_one_class_have_one_hash_and_others_another() -> None:
    def hash_of(*steps: tuple[int, str]) -> int:
        order = HappensBefore([1, 2])
        for task, key in steps:
            order.push(task, {key: CHANGES})
        return order.class_hash()

    assert hash_of((1, "x"), (2, "y")) == hash_of((2, "y"), (1, "x"))
    assert hash_of((1, "x"), (2, "x")) != hash_of((2, "x"), (1, "x"))


def test_initials_are_those_that_nothing_before_them_holds_back() -> None:
    order = HappensBefore([1, 2, 3])
    order.push(1, {"x": CHANGES})
    order.push(3, {"y": CHANGES})
    order.push(2, {"y": LOOKS})
    order.push(2, {"x": CHANGES})
    assert order.initials(0, 3) == [3]
