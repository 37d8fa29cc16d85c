# SPDX-License-Identifier: GPL-2.0-only
"""What is found in a kernel tree's own C, and how soon: `python -m stressvmap.stress.tree_study`; its tables stand in
docs/tree.md.

`mutants`: every one-change mutant of configs/patches, under the default strategy. `hits`: reverted fixes, strategy by
strategy; `points`: the same by where a task may be switched. `neutral`: patches that change nothing must change no
verdict.

A mechanism that the plain tree shows too is not the patch's: it is measured first, and declared as known.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from stressvmap.config import RunSpec
from stressvmap.errors import ConfigError, StressVmapError
from stressvmap.known import Known
from stressvmap.result import Finding, RunResult
from stressvmap.scenario import SWARM, Scenario
from stressvmap.stress import harness
from stressvmap.tree import cache
from stressvmap.tree.version import read_entries, read_known, with_options

PATCHES: Final = Path("configs/patches")
BASELINE_SCHEDULES: Final = 100_000
SCHEDULES: Final = 50_000
SEEDS: Final = 3
STRATEGIES: Final = ("mixed", "switch-points", "sticky", "pct:3", "random")
POINTS: Final = ("all", "marked")
"""The default first."""
DENSE: Final = Scenario(cpus=2, tasks_per_cpu=2, operations=8, flushers=2, flushes=2, window_blocks=12, lazy_max=16)
"""Two tasks on each CPU, two flushers, a window that overflows."""
SCENARIOS: Final = (
    DENSE,
    replace(DENSE, workload="fill-block"),
    replace(DENSE, vmalloc_rate=0.4, reset_rate=0.3, lazy_max=8, fault_rate=0.05, shrink_rate=0.1),
    Scenario(cpus=4, operations=8, flushers=2, flushes=2, aliases_rate=0.1),
    replace(DENSE, workload=SWARM),
)
"""What a patch is run under, one after the other."""


class _Mutant(BaseModel):
    model_config = ConfigDict(extra="forbid")

    file: str
    tree: str
    expected: list[str]
    equivalent: bool
    reason: str = ""


class _Patch(BaseModel):
    model_config = ConfigDict(extra="forbid")

    file: str
    kind: Literal["rfc", "revert", "neutral", "fix"]
    tree: str
    row: int | None = None
    must_show: list[str]
    needs: str = ""


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid")

    mutant: Annotated[list[_Mutant], Field(default_factory=list)]
    patch: Annotated[list[_Patch], Field(default_factory=list)]


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch of an index, and what it is to show."""

    path: Path
    tree: str
    expected: tuple[str, ...]
    is_equivalent: bool = False
    reason: str = ""
    kind: str = "mutant"
    row: int | None = None
    needs: str = ""


def read_index(path: Path) -> list[Patch]:
    """The patches of an index file. Raises ConfigError that names what is wrong."""
    read = read_entries(path, _Index)
    folder = path.parent
    found = [Patch(folder / m.file, m.tree, tuple(m.expected), m.equivalent, m.reason) for m in read.mutant]
    found += [
        Patch(folder / p.file, p.tree, tuple(p.must_show), kind=p.kind, row=p.row, needs=p.needs) for p in read.patch
    ]
    return found


def tree_named(release: str) -> str:
    """What `--version` is to be given for the fetched source of a release. Raises ConfigError if it is not there."""
    path = cache.sources() / f"linux-source-{release}.tar.xz"
    if not path.is_file():
        raise ConfigError(f"{path}: is not there; `make trees` fetches it")
    return f"tree:{path}"


def argued(release: str) -> str:
    """The same with the races that somebody has argued for: they tell nothing of a patch."""
    races = PATCHES.parent / f"races-{release}.toml"
    return with_options(tree_named(release), [("races", str(races.absolute()))])


def run(
    version: str,
    scenario: Scenario,
    *,
    seed: int,
    schedules: int,
    strategy: str = "mixed",
    stop_at_first: bool = True,
    checks: Sequence[str] = (),
) -> RunResult:
    """One run in a process of its own."""
    spec = RunSpec(
        version=version,
        scenario=scenario,
        seed=seed,
        schedules=schedules,
        strategy=strategy,
        stop_at_first=stop_at_first,
        checks=tuple(checks),
        repeat_share=0.0,
    )
    return harness.run(spec)


def baseline(version: str, schedules: int, seeds: Iterable[int], scenarios: Sequence[Scenario]) -> list[Finding]:
    """What a plain tree shows, by fingerprint."""
    found: dict[str, Finding] = {}
    for scenario in scenarios:
        for seed in seeds:
            for finding in run(version, scenario, seed=seed, schedules=schedules, stop_at_first=False).findings:
                found.setdefault(finding.fingerprint, finding)
    return sorted(found.values(), key=lambda one: (one.check, one.fingerprint))


def known_file(findings: Iterable[Finding], path: Path, declared: Iterable[Known] = ()) -> Path:
    """Write what a tree shows, or is said to break, as what it is known to show."""
    mechanisms = dict.fromkeys([*(one.mechanism for one in declared), *(one.mechanism for one in findings)])
    rows = [
        f'[[known]]\nmechanism = "{mechanism}"\nreference = "the plain tree"\ntitle = "shown by the plain tree"\n'
        for mechanism in mechanisms
    ]
    path.write_text("\n".join(rows) or "known = []\n", encoding="utf-8")
    return path


@dataclass(frozen=True, slots=True)
class Hit:
    """What killed a patch: None if nothing did within the cap."""

    schedules: int
    """Run in all until then, or the cap."""
    finding: Finding | None
    seconds: float = 0.0
    """By the clock, the start of each run included."""


def hunt(
    patch: Patch,
    known: Path,
    *,
    seed: int,
    cap: int,
    strategy: str = "mixed",
    scenarios: Sequence[Scenario] = SCENARIOS,
    points: str = POINTS[0],
) -> Hit:
    """Run a patch under one scenario after the other until something fires that the plain tree does not show."""
    options = [("patch", str(patch.path.absolute())), ("known", str(known)), ("points", points)]
    version = with_options(argued(patch.tree), options)
    total, started = 0, time.monotonic()
    for scenario in scenarios:
        result = run(version, scenario, seed=seed, schedules=cap, strategy=strategy)
        news = [one for one in result.findings if not one.known]
        if news:
            first = min(news, key=lambda one: one.first_at_schedule)
            return Hit(total + first.first_at_schedule + 1, first, time.monotonic() - started)
        total += result.schedules
    return Hit(total, None, time.monotonic() - started)


def _hunts(
    patch: Patch, known: Path, options: argparse.Namespace, *, strategy: str = "mixed", points: str = POINTS[0]
) -> list[Hit]:
    """The same of a reverted fix, by seed, under the first scenario with the limits that it needs."""
    scenarios = [_with_needs(SCENARIOS[0], patch.needs)]
    return [
        hunt(patch, known, seed=seed, cap=options.schedules, strategy=strategy, scenarios=scenarios, points=points)
        for seed in range(1, options.seeds + 1)
    ]


def _median(hits: Sequence[Hit]) -> str:
    counts = [hit.schedules if hit.finding is not None else 1 << 60 for hit in hits]
    middle = int(statistics.median_high(counts))
    found = sum(hit.finding is not None for hit in hits)
    text = f"> {max(hit.schedules for hit in hits)}" if middle == 1 << 60 else str(middle)
    return text if found == len(hits) else f"{text} ({found}/{len(hits)})"


def mutants(console: Console, chosen: Sequence[Patch], options: argparse.Namespace, scratch: Path) -> int:
    """A table: mutant, killed by which seeds, after how many schedules, by which check."""
    killed = counted = 0
    known = _baselines(console, {patch.tree for patch in chosen}, options, scratch)
    console.print("| tree | mutant | killed | schedules | by |\n|---|---|---|---|---|")
    for patch in chosen:
        hits = [
            hunt(patch, known[patch.tree], seed=seed, cap=options.schedules) for seed in range(1, options.seeds + 1)
        ]
        by = sorted({hit.finding.check for hit in hits if hit.finding is not None})
        found = sum(hit.finding is not None for hit in hits)
        verdict = f"{found}/{len(hits)}" + (" (equivalent)" if patch.is_equivalent else "")
        console.print(f"| {patch.tree} | {patch.path.stem} | {verdict} | {_median(hits)} | {', '.join(by) or '-'} |")
        if not patch.is_equivalent:
            counted += 1
            killed += found > 0
    console.print(f"\n{killed} of {counted} that are not equivalent are killed")
    return 0 if killed >= 0.9 * counted else 1


def hits(console: Console, chosen: Sequence[Patch], options: argparse.Namespace, scratch: Path) -> int:
    """A table: reverted fix, by strategy the median of schedules to the first hit."""
    known = _baselines(console, {patch.tree for patch in chosen}, options, scratch)
    console.print(f"| strategy | {' | '.join(patch.path.stem for patch in chosen)} |")
    console.print("|---" * (len(chosen) + 1) + "|")
    missed = 0
    for strategy in options.strategies.split(";"):
        cells = []
        for patch in chosen:
            found = _hunts(patch, known[patch.tree], options, strategy=strategy)
            missed += all(hit.finding is None for hit in found)
            cells.append(_median(found))
        console.print(f"| {strategy} | {' | '.join(cells)} |")
    return 1 if missed else 0


def points(console: Console, chosen: Sequence[Patch], options: argparse.Namespace, scratch: Path) -> int:
    """A table: where a task may be switched, and of each reverted fix the schedules and seconds to the first hit."""
    known = _baselines(console, {patch.tree for patch in chosen}, options, scratch)
    console.print(f"| points | {' | '.join(patch.path.stem for patch in chosen)} |")
    console.print("|---" * (len(chosen) + 1) + "|")
    for where in POINTS:
        cells = []
        for patch in chosen:
            found = _hunts(patch, known[patch.tree], options, points=where)
            cells.append(f"{_median(found)}, {statistics.median(hit.seconds for hit in found):.1f} s")
        console.print(f"| {where} | {' | '.join(cells)} |")
    return 0


def neutral(console: Console, chosen: Sequence[Patch], options: argparse.Namespace, scratch: Path) -> int:
    """For each patch: whether verdict and fingerprints are those of the plain tree."""
    wrong = 0
    for patch in chosen:
        plain = tree_named(patch.tree)
        patched = with_options(plain, [("patch", str(patch.path.absolute()))])
        both = [
            baseline(version, options.schedules, range(1, options.seeds + 1), SCENARIOS) for version in (plain, patched)
        ]
        before, after = ({one.fingerprint for one in found} for found in both)
        same = before == after
        wrong += not same
        told = "same" if same else f"only before: {sorted(before - after)}, only after: {sorted(after - before)}"
        console.print(f"| {patch.tree} | {patch.path.stem} | {len(before)} | {told} |")
    return 1 if wrong else 0


def _with_needs(scenario: Scenario, needs: str) -> Scenario:
    """A scenario with a limit on what a patch makes dear."""
    name = needs.removeprefix("limits.")
    return replace(scenario, limits={name: 0.0}) if name else scenario


def _baselines(console: Console, trees: Iterable[str], options: argparse.Namespace, scratch: Path) -> dict[str, Path]:
    found = {}
    for tree in sorted(trees):
        shown = baseline(argued(tree), options.baseline, range(1, options.seeds + 1), SCENARIOS)
        console.print(f"{tree} shows {len(shown)}: {', '.join(f'{one.check}:{one.fingerprint}' for one in shown)}\n")
        declared = read_known(PATCHES.parent / f"known-{tree}.toml")
        found[tree] = known_file(shown, scratch / f"known-{tree}.toml", declared)
    return found


_STUDIES: Final[dict[str, Any]] = {"mutants": mutants, "hits": hits, "points": points, "neutral": neutral}
_KINDS: Final = {"mutants": "mutant", "hits": "revert", "points": "revert", "neutral": "neutral"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one study. Exit status: 0 as it should be, 1 not, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=sorted(_STUDIES))
    parser.add_argument("--tree", default="", help="only patches of this release (6.1, 6.12)")
    parser.add_argument("--only", default="", help="only patches whose file name has this in it")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--schedules", type=int, default=SCHEDULES, help="cap, for each scenario and seed")
    parser.add_argument("--baseline", type=int, default=BASELINE_SCHEDULES)
    parser.add_argument("--strategies", default=";".join(STRATEGIES), help="with semicolons between them")
    parser.add_argument("--patches", type=Path, default=PATCHES)
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    try:
        index = options.patches / ("mutants/index.toml" if options.study == "mutants" else "index.toml")
        chosen = [
            patch
            for patch in read_index(index)
            if patch.kind == _KINDS[options.study]
            and options.tree in ("", patch.tree)
            and options.only in patch.path.name
        ]
        with tempfile.TemporaryDirectory(prefix="stressvmap-") as scratch:
            status: int = _STUDIES[options.study](console, chosen, options, Path(scratch))
            return status
    except StressVmapError as error:
        print(f"tree_study: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
