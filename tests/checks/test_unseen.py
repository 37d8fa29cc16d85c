# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import pickle
from itertools import accumulate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stressvmap.checks.unseen import DISTRIBUTION_FREE, NORMAL, ClassSample, CoverageCount, Unseen

Seen = tuple[str, int, frozenset[int]]
executions = st.lists(
    st.tuples(st.sampled_from(["random", "pct"]), st.integers(0, 60), st.frozensets(st.integers(0, 9), max_size=3)),
    max_size=120,
)


def counted(seen: list[Seen], capacity: int = 16, first: int = 0, stride: int = 1) -> CoverageCount:
    """Of the executions that a process with that share runs."""
    count = CoverageCount(capacity)
    for number, execution in enumerate(seen[first::stride]):
        count.add(*execution, first + number * stride)
    return count


@given(executions, st.integers(1, 5))
def test_the_number_of_processes_changes_nothing(seen: list[Seen], jobs: int) -> None:
    merged = CoverageCount(16)
    for job in reversed(range(jobs)):
        merged.merge(counted(seen, first=job, stride=jobs))
    assert merged.as_dict() == counted(seen).as_dict()


@given(executions)
def test_counts_are_exact_while_all_classes_are_held(seen: list[Seen]) -> None:
    told = counted(seen, capacity=1000).as_dict()
    if not seen:
        assert told == {}
        return
    classes = [class_hash for _, class_hash, _ in seen]
    assert told["executions"] == len(seen)
    assert told["distinct_journals"] == len(set(classes))
    assert told["distinct_pairs"] == len(frozenset().union(*(pairs for _, _, pairs in seen)))
    of_pair: dict[int, list[int]] = {}
    for number, (_, _, pairs) in enumerate(seen):
        for pair in pairs:
            of_pair.setdefault(pair, []).append(number)
    assert told["last_new_pair_at"] == max((numbers[0] for numbers in of_pair.values()), default=-1)
    assert told["new_pairs_expected"] == round(sum(len(found) == 1 for found in of_pair.values()) / len(seen), 6)
    once = sum(classes.count(class_hash) == 1 for class_hash in set(classes))
    assert told["unseen_estimate"] == round(once / len(seen), 6)
    assert {name: part["executions"] for name, part in told["by_strategy"].items()} == {
        name: sum(strategy == name for strategy, _, _ in seen) for name in sorted({strategy for strategy, _, _ in seen})
    }


def test_a_class_that_two_strategies_showed_once_each_was_seen_twice() -> None:
    told = counted([("random", 1, frozenset()), ("pct", 1, frozenset())]).as_dict()
    assert told["unseen_estimate"] == 0
    assert told["by_strategy"]["pct"]["unseen_estimate"] == 1


def test_memory_is_bounded_and_the_estimates_are_near() -> None:
    random = Random("sample")
    sample = ClassSample(1024)
    for _ in range(50_000):
        sample.add(random.getrandbits(64))
    for _ in range(2):
        repeated = Random("repeated")
        for _ in range(20_000):
            sample.add(repeated.getrandbits(64))
    assert len(sample.counts) <= 1024
    assert sample.distinct() == pytest.approx(70_000, rel=0.1)
    assert sample.seen_once() << sample.level == pytest.approx(50_000, rel=0.1)
    assert sample.seen_twice() << sample.level == pytest.approx(20_000, rel=0.15)


def sampled(weights: list[float], executions: int, random: Random) -> tuple[Unseen, float]:
    """What is estimated of this distribution over classes, and the true probability of the unseen ones."""
    drawn = random.choices(range(len(weights)), cum_weights=list(accumulate(weights)), k=executions)
    sample = ClassSample()
    for class_number in drawn:
        sample.add(class_number)
    return Unseen(sample), 1 - sum(weights[class_number] for class_number in set(drawn)) / sum(weights)


@pytest.mark.parametrize(
    ("exponent", "classes", "executions", "method"),
    [
        (1.0, 2000, 800, NORMAL),
        (0.0, 500, 1000, NORMAL),
        (0.0, 3000, 40, DISTRIBUTION_FREE),
        (3.0, 50, 40, DISTRIBUTION_FREE),
    ],
)
def test_the_interval_holds_the_truth_about_as_often_as_it_says(
    exponent: float, classes: int, executions: int, method: str
) -> None:
    random = Random(f"{exponent}/{classes}")
    weights = [1 / rank**exponent for rank in range(1, classes + 1)]
    held = 0
    for _ in range(200):
        unseen, truth = sampled(weights, executions, random)
        assert unseen.method == method
        held += unseen.low <= truth <= unseen.high
    assert held >= 184, "95 % of 200, less three standard deviations"


def test_an_interval_of_executions_that_were_all_different_is_no_point() -> None:
    sample = ClassSample()
    for class_hash in range(400):
        sample.add(class_hash)
    unseen = Unseen(sample)
    assert unseen.estimate == 1
    assert 0.7 < unseen.low < 0.8


def test_of_no_execution_nothing_is_known() -> None:
    unseen = Unseen(ClassSample())
    assert (unseen.low, unseen.high) == (0, 1)


@given(executions)
def test_the_live_figure_is_no_less_than_the_classes_seen(seen: list[Seen]) -> None:
    count = counted(seen, capacity=1000)
    assert count.classes_at_most() >= count.as_dict().get("distinct_journals", 0)
    assert count.classes_at_most() == len({(strategy, class_hash) for strategy, class_hash, _ in seen})


def test_a_count_travels_between_processes_and_is_told_as_json() -> None:
    count = counted([("random", 1, frozenset({3})), ("pct", 2, frozenset({4}))])
    assert pickle.loads(pickle.dumps(count)).as_dict() == count.as_dict()
    assert json.loads(json.dumps(count.as_dict())) == count.as_dict()
