# SPDX-License-Identifier: GPL-2.0-only
"""What became of each mutant, a line of JSON each; the arguments for those that are no bugs; the table."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.mutants.building import Mutant
from tests.mutants.trial import BEHAVIOUR, BROKEN, KILLED, SURVIVED, Outcome

EQUIVALENT_FILE: Final = Path(__file__).with_name("equivalent.toml")


@dataclass(frozen=True, slots=True)
class Result:
    """A mutant's outcome."""

    mutant: str
    code: str
    """Digest of the mutant: a result of other code is no result."""
    version: str
    line: int
    change: str
    outcome: str
    by: str
    why: str
    executions: int


def result_of(mutant: Mutant, outcome: Outcome) -> Result:
    """Mutant and outcome in one record."""
    return Result(
        mutant=mutant.id,
        code=mutant.code,
        version=mutant.version,
        line=mutant.line,
        change=mutant.change,
        **asdict(outcome),
    )


def append(path: Path, result: Result) -> None:
    """Keep `result`; whatever happens next, it is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def read(path: Path, mutants: Iterable[Mutant]) -> dict[str, Result]:
    """The last result of each of `mutants` that has one. A line that was cut is none."""
    codes = {mutant.id: mutant.code for mutant in mutants}
    found: dict[str, Result] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            result = Result(**json.loads(line))
        except (ValueError, TypeError):
            continue
        if codes.get(result.mutant) == result.code:
            found[result.mutant] = result
    return found


def equivalences() -> dict[str, str]:
    """By mutant: why it is no bug."""
    data = tomllib.loads(EQUIVALENT_FILE.read_text(encoding="utf-8"))
    return {mutant: str(entry["because"]).strip() for entry in data["equivalent"] for mutant in entry["mutants"]}


# -- the table ------------------------------------------------------------------------------------------------


def table(mutants: list[Mutant], results: Mapping[str, Result], equal: Mapping[str, str]) -> str:
    """Markdown: what killed how many, by version; then the survivors."""
    versions = list(dict.fromkeys(mutant.version for mutant in mutants))
    rows: dict[str, Counter[str]] = {version: Counter() for version in versions}
    killers: Counter[str] = Counter()
    survivors: list[Mutant] = []
    for mutant in mutants:
        count = rows[mutant.version]
        count["generated"] += 1
        result = results.get(mutant.id)
        if result is None:
            count["not run"] += 1
        elif result.outcome == KILLED:
            by = result.by if result.by != BEHAVIOUR else f"{BEHAVIOUR}: {result.why}"
            count[by] += 1
            count[KILLED] += 1
            count["by a check" if result.by != BEHAVIOUR else "by behaviour"] += 1
            killers[by] += 1
        elif mutant.id in equal:
            count["equivalent"] += 1
        else:
            count[result.outcome] += 1
            survivors.append(mutant)
    lines = [_row(["", *versions]), _row(["---", *["---:"] * len(versions)])]
    names = ["generated", "not run", BROKEN, "equivalent", KILLED, "by a check", "by behaviour", SURVIVED]
    lines += [_row([name, *(str(rows[version][name]) for version in versions)]) for name in names]
    rate = rates(mutants, results, equal)
    lines.append(_row(["killed of the non-equivalent", *(f"{100 * rate[version]:.1f} %" for version in versions)]))
    lines += ["", _row(["killed by", *versions]), _row(["---", *["---:"] * len(versions)])]
    for name, _ in sorted(killers.items(), key=lambda item: (item[0].startswith(BEHAVIOUR), -item[1], item[0])):
        lines.append(
            _row([f"`{name}`" if not name.startswith(BEHAVIOUR) else name, *(str(rows[v][name]) for v in versions)])
        )
    for outcome, title in ((SURVIVED, "Survivors"), (BROKEN, "Broken")):
        told = [mutant for mutant in survivors if results[mutant.id].outcome == outcome]
        if told:
            lines += ["", f"{title}:", ""]
            lines += [f"- `{mutant.id}` (line {mutant.line}) {results[mutant.id].why}".rstrip() for mutant in told]
    return "\n".join(lines) + "\n"


def rates(mutants: Iterable[Mutant], results: Mapping[str, Result], equal: Mapping[str, str]) -> dict[str, float]:
    """By version: how many of the mutants that are no equivalents were killed, between 0 and 1. What was not run, or is
    broken, was not.
    """
    killed: Counter[str] = Counter()
    all_: Counter[str] = Counter()
    for mutant in mutants:
        is_killed = mutant.id in results and results[mutant.id].outcome == KILLED
        if is_killed or mutant.id not in equal or mutant.id not in results:
            all_[mutant.version] += 1
            killed[mutant.version] += is_killed
    return {version: killed[version] / count for version, count in all_.items()}


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
