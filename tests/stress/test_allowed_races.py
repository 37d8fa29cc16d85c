# SPDX-License-Identifier: GPL-2.0-only
"""Which data races an allow list covers, and that it hides no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from stressvmap.checks.base import Mechanism, Violation
from stressvmap.errors import ConfigError
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.journal import Journal
from stressvmap.stress.allowed_races import Allowed, allowance_of, as_dict, read_allowed, split
from stressvmap.tree.screen import Race

CONFIGS = Path(__file__).parents[2] / "configs"
LOOK = Allowed(frozenset({"purge_fragmented_blocks", "vb_alloc"}), frozenset({"vmap_block.free"}), "looked at again")
POOL = Allowed(frozenset({"node_pool_del_va"}), frozenset({"vmap_node.pool[].len"}), "a hint")


def race(one: str, other: str, field: str, runs: int = 1) -> Race:
    return Race((f"{one} mm/vmalloc.c:2087", f"{other} mm/vmalloc.c:2152"), field, runs)


def found(reader: str, writer: str, field: str = "free") -> tuple[Violation, Journal]:
    events: list[Event] = [
        (ev.OBJECT_ALLOC, 1, 0, "new_vmap_block mm/vmalloc.c:1", 1 << 20, "vmap_block", 0),
        (ev.WRITE, 1, 0, f"{writer} mm/vmalloc.c:2152", 1 << 20, field, 3),
        (ev.READ, 2, 1, f"{reader} mm/vmalloc.c:2087", 1 << 20, field, 3),
    ]
    mechanism = Mechanism("data-race", ("vm_map_ram", "vm_unmap_aliases"), f"vmap_block.{field}", "plain")
    return Violation("data-race", mechanism, "", 2, (1, 2)), Journal(header={}, events=events)


def test_a_race_of_the_two_functions_on_the_field_is_allowed_whichever_came_first() -> None:
    assert allowance_of(*found("purge_fragmented_blocks", "vb_alloc"), [LOOK]) is LOOK
    assert allowance_of(*found("vb_alloc", "purge_fragmented_blocks"), [LOOK]) is LOOK


@pytest.mark.parametrize(
    ("reader", "writer", "field"),
    [
        ("purge_fragmented_blocks", "vb_free", "free"),
        ("vb_alloc", "vb_alloc", "free"),
        ("purge_fragmented_blocks", "vb_alloc", "dirty"),
    ],
)
def test_a_race_of_another_pair_or_field_is_not(reader: str, writer: str, field: str) -> None:
    assert allowance_of(*found(reader, writer, field), [LOOK]) is None


def test_what_is_no_data_race_is_never_allowed() -> None:
    violation, journal = found("purge_fragmented_blocks", "vb_alloc")
    other = Violation("leak", violation.mechanism, "", 2, (1, 2))
    assert allowance_of(other, journal, [LOOK]) is None


def test_each_pair_that_was_seen_is_counted_and_a_new_one_told() -> None:
    races = [
        race("vb_alloc", "purge_fragmented_blocks", "vmap_block.free", 40),
        race("vb_alloc", "vb_free", "vmap_block.free", 2),
        race("node_pool_del_va", "node_pool_del_va", "vmap_node.pool[3].len", 7),
    ]
    inside, outside = split(races, [LOOK, POOL])
    assert [one.runs for one, _ in inside] == [40, 7]
    assert outside == races[1:2]
    told = as_dict(races, [LOOK, POOL])
    assert (told["allowed_pairs"], told["allowed_runs"]) == (2, 47)
    assert [pair["runs"] for pair in told["pairs"]] == [2]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("races-*.toml")), ids=lambda path: path.name)
def test_each_entry_of_the_project_s_own_lists_has_an_argument(path: Path) -> None:
    assert all(len(entry.reason) > 40 and len(entry.functions) <= 2 for entry in read_allowed(path))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[allow]]\nfunctions = ['f']\nfields = ['a.b']\n", "allow.0.reason"),
        ("[[allow]]\nfunctions = []\nfields = ['a.b']\nreason = 'x'\n", "allow.0.functions"),
        ("[[allow]]\nfunctions = ['f', 'g', 'h']\nfields = ['a.b']\nreason = 'x'\n", "allow.0.functions"),
        ("[[alow]]\n", "allow"),
        ("allow = [", "is no TOML file"),
    ],
)
def test_a_list_that_is_wrong_says_where(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "races.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{path}: .*{complaint}"):
        read_allowed(path)


def test_a_list_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_allowed(tmp_path / "none.toml")
