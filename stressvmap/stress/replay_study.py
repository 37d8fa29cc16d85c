# SPDX-License-Identifier: GPL-2.0-only
"""Do saved schedules replay? `make replay-check`, or `python -m stressvmap.stress.replay_study`.

Collects random failures of many kinds, saves each, then replays all of them in one fresh process under each of several
PYTHONHASHSEEDs, and some of them by the command itself. Each must recur with its journal to the byte.

With --trees these are failures of kernel trees, and they must recur once more from a copy of each tree in another
folder, built anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from stressvmap.stress import subject
from stressvmap.stress.execution import Executor
from stressvmap.stress.failures import SOURCES, Source, failures, tree_sources
from stressvmap.stress.replay import RECURS, replay
from stressvmap.stress.schedule_file import SavedSchedule, read_schedule, write_schedule
from stressvmap.stress.tree_study import PATCHES
from stressvmap.tree import cache
from stressvmap.tree.sources import PREFIX

RELEASES: Final = ("6.1", "6.12")
RANDOMISED: Final = Path("/proc/sys/kernel/randomize_va_space")
SHARE_MAX: Final = 0.15
"""Of one fingerprint among all failures (the claim to support allows .4)."""
HASH_SEEDS: Final = (0, 1, 2, 3, 17, 42, 99, 1234, 65537, 4294967295)
EXECUTIONS_MAX: Final = 50_000
"""Executions in search of failures; a version that has been cured gives none."""


def collect(count: int, folder: Path, origins: Sequence[Source] = SOURCES, seed: int = 1) -> list[SavedSchedule]:
    """Save `count` failures as NNNN.json, one of each failing execution: that whose fingerprint was seen least."""
    sources = [failures(source, seed=seed) for source in origins]
    seen: Counter[str] = Counter()
    saved: list[SavedSchedule] = []
    for number in range(EXECUTIONS_MAX):
        if len(saved) == count:
            break
        found = next(sources[number % len(sources)])
        wanted = [one for one in found if seen[one.fingerprint] < max(1, SHARE_MAX * count)]
        if wanted:
            rarest = min(wanted, key=lambda one: seen[one.fingerprint])
            seen[rarest.fingerprint] += 1
            write_schedule(rarest, folder / f"{len(saved):04d}.json")
            saved.append(rarest)
    return saved


def replay_all(folder: Path) -> int:
    """Replay each file in `folder` and print a line: its name, whether it recurs, whether the journal is the same."""
    executors: dict[str, Executor] = {}
    for path in sorted(folder.glob("*.json")):
        saved = read_schedule(path)
        executor = executors.get(saved.version)
        if executor is None:
            executor = executors[saved.version] = Executor(subject.load(saved.version), saved.scenario)
        elif executor.scenario != saved.scenario:
            executor.change_scenario(saved.scenario)
        told = replay(saved, executor)
        print(path.name, int(told.exit_status == RECURS), int(told.is_same_journal is True), told.journal_digest)
    return 0


def in_a_fresh_process(
    folder: Path, hash_seed: int, saved: Sequence[SavedSchedule], settings: Mapping[str, str] | None = None
) -> int:
    """How many of the failures in `folder` recur with their journal in a process of their own."""
    command = [sys.executable, "-m", "stressvmap.stress.replay_study", "--replay-folder", str(folder)]
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)} | dict(settings or {})
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    told = {name: rest for name, *rest in (line.split() for line in done.stdout.splitlines())}
    return sum(told.get(f"{number:04d}.json") == ["1", "1", one.journal_digest] for number, one in enumerate(saved))


def after_a_rebuild(folder: Path, saved: Sequence[SavedSchedule], trees: Mapping[str, str]) -> int:
    """How many recur with their journal on copies of the trees in another folder, built anew in an empty cache."""
    with tempfile.TemporaryDirectory(prefix="stressvmap-rebuilt-") as scratch:
        moved = Path(scratch, "schedules")
        moved.mkdir()
        texts = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
        for tree in trees.values():
            copy = Path(scratch, "trees", Path(tree).name)
            copy.parent.mkdir(exist_ok=True)
            if Path(tree).is_dir():
                shutil.copytree(tree, copy, symlinks=True)
            else:
                shutil.copyfile(tree, copy)
            texts = {name: text.replace(f"{PREFIX}{tree}", f"{PREFIX}{copy}") for name, text in texts.items()}
        for name, text in texts.items():
            (moved / name).write_text(text, encoding="utf-8")
        return in_a_fresh_process(moved, HASH_SEEDS[-1], saved, {"XDG_CACHE_HOME": str(Path(scratch, "cache"))})


def by_command(path: Path, one: SavedSchedule, hash_seed: int) -> bool:
    """Whether `stressvmap replay` says that the failure recurs with its journal."""
    command = [sys.executable, "-m", "stressvmap", "replay", str(path), "--json"]
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != RECURS:
        return False
    told = json.loads(done.stdout)
    return bool(told["recurs"] and told["same_journal"] and told["journal_digest"] == one.journal_digest)


def study(
    count: int, hash_seeds: int, commands: int, folder: Path, console: Console, trees: Mapping[str, str] | None = None
) -> bool:
    """The whole check, printed as it goes; whether all of it held. `trees`: of these, by release."""
    started = time.monotonic()
    saved = collect(count, folder, tree_sources(trees, PATCHES / "reverts") if trees else SOURCES)
    seen = Counter(f"{one.fingerprint}  {one.mechanism}" for one in saved)
    for name, times in seen.most_common():
        console.print(f"{times:6}  {name}")
    most = max(seen.values(), default=0)
    strategies = len({one.strategy for one in saved})
    console.print(
        f"{len(saved)} failures of {len(seen)} fingerprints, none over {100 * most / max(1, len(saved)):.0f} %, "
        f"by {strategies} strategies, collected in {time.monotonic() - started:.0f} s"
    )
    console.print("of these recur, with the same journal:")
    is_fine = len(saved) == count and (len(seen) >= 5 or count < 50) and most <= max(1, 0.4 * count)
    if trees:
        randomised = RANDOMISED.read_text(encoding="utf-8").strip() if RANDOMISED.exists() else "not known"
        console.print(f"  (addresses of processes are randomised: {randomised}; 2 is all of them)")
    for hash_seed in HASH_SEEDS[:hash_seeds]:
        started = time.monotonic()
        same = in_a_fresh_process(folder, hash_seed, saved)
        is_fine &= same == count
        seconds = time.monotonic() - started
        console.print(f"  in one fresh process, PYTHONHASHSEED={hash_seed}: {same} of {count} ({seconds:.0f} s)")
    if trees:
        started = time.monotonic()
        same = after_a_rebuild(folder, saved, trees)
        is_fine &= same == count
        seconds = time.monotonic() - started
        console.print(f"  from copies of the trees, built anew in an empty cache: {same} of {count} ({seconds:.0f} s)")
    started = time.monotonic()
    every = max(1, count // max(1, commands))
    chosen = list(range(0, len(saved), every))[:commands]
    same = sum(
        by_command(folder / f"{number:04d}.json", saved[number], HASH_SEEDS[number % len(HASH_SEEDS)])
        for number in chosen
    )
    is_fine &= same == min(commands, count)
    console.print(f"  by the command: {same} of {len(chosen)} ({time.monotonic() - started:.0f} s)")
    return is_fine


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; 1 if anything did not replay, 2 if there are no trees."""
    parser = argparse.ArgumentParser(prog="python -m stressvmap.stress.replay_study", description=__doc__)
    parser.add_argument("--failures", type=int, default=1000)
    parser.add_argument("--hash-seeds", type=int, default=len(HASH_SEEDS), choices=range(1, len(HASH_SEEDS) + 1))
    parser.add_argument("--commands", type=int, default=200)
    parser.add_argument("--trees", action="store_true", help="failures of the kernel trees that `make trees` fetched")
    parser.add_argument("--out", type=Path, help="keep the schedules in this folder")
    parser.add_argument("--replay-folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.replay_folder is not None:
        return replay_all(given.replay_folder)
    console = Console(soft_wrap=True, highlight=False)
    trees = {release: str(cache.sources() / f"linux-source-{release}.tar.xz") for release in RELEASES}
    missing = [path for path in trees.values() if given.trees and not Path(path).is_file()]
    if missing:
        console.print(f"{missing[0]}: is not there; `make trees` fetches it")
        return 2
    with tempfile.TemporaryDirectory(prefix="stressvmap-replay-") as scratch:
        folder = Path(scratch) if given.out is None else given.out
        folder.mkdir(parents=True, exist_ok=True)
        chosen = trees if given.trees else None
        is_fine = study(given.failures, given.hash_seeds, given.commands, folder, console, chosen)
    console.print("all recur, with identical digests" if is_fine else "NOT all recur with identical digests")
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
