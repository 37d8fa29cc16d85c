# SPDX-License-Identifier: GPL-2.0-only
"""A schedule file holds all of an execution, and nothing that is in a bad one gets further than its reading."""

from __future__ import annotations

import copy
import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stressvmap.errors import ConfigError
from stressvmap.kernel.slab import FAULT_KINDS
from stressvmap.program import KINDS, Fault, Migration, Program, ProgramOp, TaskProgram
from stressvmap.runtime.strategy import Schedule
from stressvmap.scenario import WORKLOADS, Scenario
from stressvmap.stress import schedule_file
from stressvmap.stress.schedule_file import (
    SavedSchedule,
    decode_runs,
    encode_runs,
    parse,
    read_schedule,
    write_schedule,
)
from tests.stress.runs import python
from tests.stress.saved import LOST_DEBT, SMALL

NUMBERS = st.integers(0, 1 << 16)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
PROGRAMS = st.builds(
    Program,
    st.lists(
        st.builds(
            TaskProgram,
            st.integers(0, 255),
            st.lists(st.builds(ProgramOp, st.sampled_from(sorted(KINDS)), NUMBERS, NUMBERS), max_size=5).map(tuple),
            TEXTS,
        ),
        max_size=4,
    ).map(tuple),
    st.lists(st.builds(Fault, st.sampled_from(FAULT_KINDS), NUMBERS, NUMBERS), max_size=3).map(tuple),
    st.lists(st.builds(Migration, NUMBERS, NUMBERS, NUMBERS), max_size=3).map(tuple),
)
SCENARIOS = st.builds(
    Scenario,
    workload=st.sampled_from(WORKLOADS),
    cpus=st.integers(2, 2),
    possible=st.sampled_from([(), (0, 5)]),
    offline=st.sampled_from([(), (0,)]),
    block_bits=st.sampled_from([8, 64]),
    fault_rate=st.floats(0, 1),
    limits=st.dictionaries(st.sampled_from(["re-flush", "lock-hold"]), st.floats(0, 1e9)),
)
SCHEDULES = st.builds(
    Schedule,
    st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 999_999_999)), max_size=20),
    st.lists(st.integers(0, 5), max_size=20),
)
SAVED = st.builds(
    SavedSchedule,
    version=st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=30),
    version_digest=TEXTS,
    scenario=SCENARIOS,
    program=PROGRAMS,
    schedule=SCHEDULES,
    journal_digest=TEXTS,
    reason=TEXTS,
    check=TEXTS,
    fingerprint=TEXTS,
    mechanism=TEXTS,
    message=TEXTS,
    seed=st.integers(0, 1 << 70),
    execution=NUMBERS,
    strategy=TEXTS,
    package=TEXTS,
)
PLAIN = SavedSchedule(
    version="v6.4",
    version_digest="0123",
    scenario=SMALL,
    program=LOST_DEBT,
    schedule=Schedule([(1, 40), (1000, 2)], [1, 1, 0]),
    fingerprint="978ca5627c09",
)


@given(SAVED)
def test_what_is_written_is_read_back(saved: SavedSchedule) -> None:
    assert parse(saved.to_json().encode(), "it") == saved


@given(SAVED)
def test_the_text_of_a_schedule_does_not_change_by_reading_it(saved: SavedSchedule) -> None:
    text = saved.to_json()
    assert parse(text.encode(), "it").to_json() == text


@given(st.lists(st.tuples(st.integers(0, 999_999_999), st.integers(1, 999_999_999))))
def test_run_lengths_decode_to_what_was_encoded(runs: list[tuple[int, int]]) -> None:
    assert decode_runs(encode_runs(runs), "it") == runs


def test_each_operation_and_each_fault_has_its_name_in_the_file() -> None:
    assert set(get_args(schedule_file._Kind)) == KINDS
    assert get_args(schedule_file._FaultKind) == FAULT_KINDS


@given(st.integers(0, len(PLAIN.to_json()) - 2))
def test_a_file_that_was_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(ConfigError, match=r"^it: is no schedule file, or not a whole one: "):
        parse(PLAIN.to_json().encode()[:length], "it")


@given(st.binary())
def test_any_bytes_give_one_clear_error(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^it: is no schedule file"):
        parse(data, "it")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data(), JUNK)
def test_junk_in_place_of_any_value_is_refused_by_name_or_means_something(data: st.DataObject, junk: Any) -> None:
    """The error names the file and the key; what is accepted can be written and read again."""
    told = json.loads(PLAIN.to_json())
    holder: Any = told
    key: Any = data.draw(st.sampled_from(sorted(told)))
    first = key
    while isinstance(holder[key], dict | list) and holder[key] and data.draw(st.booleans()):
        holder = holder[key]
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
    holder[key] = junk
    told_error, saved = "", None
    try:
        saved = parse(json.dumps(told).encode(), "it")
    except ConfigError as error:
        told_error = str(error)
    if saved is not None:
        assert parse(saved.to_json().encode(), "it") == saved
    else:
        assert "\n" not in told_error
        assert told_error.startswith("it: ")
        assert str(first) in told_error or "JSON" in told_error


def changed(change: Callable[[Any], object]) -> str:
    """The error that a file with `change` made to its data gives."""
    told = copy.deepcopy(json.loads(PLAIN.to_json()))
    change(told)
    with pytest.raises(ConfigError) as error:
        parse(json.dumps(told).encode(), "it")
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(kind="x"), 'it: is no schedule file (no "kind": "stressvmap-schedule")'),
        (lambda d: d.update(schema=2), "it: schema 2 is not 1, the one this release reads"),
        (lambda d: d.pop("choices"), "it: choices: Field required"),
        (lambda d: d.update(colour="red"), "it: colour: Extra inputs are not permitted"),
        (lambda d: d["scenario"].update(cpu=3), "it: scenario.cpu: Unexpected keyword argument"),
        (lambda d: d["scenario"].update(cpus="4"), "it: scenario.cpus: Input should be a valid integer"),
        (lambda d: d["scenario"].update(cpus=65), "it: scenario.cpus: 65 is not between 1 and 64"),
        (lambda d: d["program"].update(task=[]), "it: program.task: Extra inputs are not permitted"),
        (lambda d: d["program"].pop("faults"), "it: program.faults: Field required"),
        (lambda d: d["program"]["tasks"][0]["ops"].append(["map", 1]), "it: program.tasks.0.ops.4.2: Field required"),
        (
            lambda d: d["program"]["tasks"][0].update(cpu=1.5),
            "it: program.tasks.0.cpu: Input should be a valid integer",
        ),
        (lambda d: d.update(choices="1x4 1x0"), "it: choices: entry 1 is '1x0', which is neither N nor NxCOUNT"),
        (lambda d: d.update(choices="-1"), "it: choices: entry 0 is '-1', which is neither N nor NxCOUNT"),
        (lambda d: d.update(draws="0x999999999"), "it: draws: 999,999,999 numbers are more than an execution can draw"),
        (lambda d: d.update(version="a\0.py"), "it: version: String should match pattern"),
        (lambda d: d.update(seed=-1), "it: seed: Input should be greater than or equal to 0"),
        (
            lambda d: d["program"]["tasks"][0]["ops"].append(["map", 1, 1 << 17]),
            "it: program.tasks.0.ops.4: Value error, 131,072 pages are more than any window has",
        ),
        (
            lambda d: d["program"]["faults"].append(["flood", 1, 1]),
            "it: program.faults.0.0: Input should be 'kmalloc', 'kmem_cache_alloc', 'xa_insert' or 'pte_alloc'",
        ),
        (
            lambda d: d["program"].update(tasks=d["program"]["tasks"] * 1000),
            "it: program.tasks: List should have at most 899 items",
        ),
    ],
)
def test_a_bad_value_is_named(change: Callable[[Any], object], message: str) -> None:
    assert changed(change).startswith(message)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read: No such file"):
        read_schedule(tmp_path / "none.json")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        read_schedule(tmp_path)


def test_a_file_larger_than_any_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(schedule_file.BYTES_MAX + 1)
    with pytest.raises(ConfigError, match="larger than any"):
        read_schedule(path)


# -- nothing half-written is ever read as whole -----------------------------------------------------------


def test_writing_replaces_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text("old")
    write_schedule(PLAIN, path)
    assert read_schedule(path) == PLAIN
    assert os.listdir(tmp_path) == ["s.json"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*/no/s\.json: No such file"):
        write_schedule(PLAIN, tmp_path / "no" / "s.json")


def test_a_write_that_fails_half_way_keeps_the_old_file(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: a write beyond it fails as one to a full disk does."""
    path = tmp_path / "s.json"
    write_schedule(PLAIN, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(ConfigError, match="cannot write"):
            write_schedule(PLAIN, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert read_schedule(path) == PLAIN
    assert os.listdir(tmp_path) == ["s.json"]


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        path = tmp_path / "s.json"
        write_schedule(PLAIN, path)
        (tmp_path / "ballast").write_bytes(b"x" * 8192)
        with pytest.raises(ConfigError, match="No space left on device"):
            write_schedule(SavedSchedule(**{**fields(PLAIN), "message": "x" * 20_000}), path)
        assert read_schedule(path) == PLAIN
        assert sorted(os.listdir(tmp_path)) == ["ballast", "s.json"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def fields(saved: SavedSchedule) -> dict[str, Any]:
    return {name: getattr(saved, name) for name in SavedSchedule.__slots__}


KILLED = """
    import sys
    from pathlib import Path
    from tests.stress.test_schedule_file import PLAIN
    from stressvmap.stress.schedule_file import write_schedule
    print("on", flush=True)
    while True:
        write_schedule(PLAIN, Path(sys.argv[1]))
"""


def test_kill_9_while_writing_leaves_a_whole_file_and_does_not_disturb_the_next_writer(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s.json"
    process = python(KILLED, path)
    assert process.stdout is not None
    process.stdout.readline()
    while not path.exists():
        assert process.poll() is None
    process.kill()
    process.wait()
    process.stdout.close()
    assert read_schedule(path) == PLAIN
    write_schedule(PLAIN, path)
    assert read_schedule(path) == PLAIN
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == ["s.json"]
