# SPDX-License-Identifier: GPL-2.0-only
"""Pairs are the list of pairs that they were made of."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stressvmap.runtime.pairs import Pairs

pairs_of_numbers = st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 40)), max_size=20)


@given(pairs_of_numbers, st.integers(-25, 25))
def test_they_read_like_a_list(pairs: list[tuple[int, int]], index: int) -> None:
    packed = Pairs(pairs)
    assert list(packed) == pairs
    assert len(packed) == len(pairs)
    assert packed[index:] == pairs[index:]
    if -len(pairs) <= index < len(pairs):
        assert packed[index] == pairs[index]
    else:
        with pytest.raises(IndexError):
            packed[index]
    assert pickle.loads(pickle.dumps(packed)) == packed


@given(pairs_of_numbers, pairs_of_numbers)
def test_they_are_equal_to_what_holds_the_same(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    assert Pairs(one) == one
    assert one == Pairs(one)
    assert (Pairs(one) == Pairs(other)) == (one == other)
    assert Pairs(one) != 3
