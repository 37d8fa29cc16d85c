# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from stressvmap.report.table import table
from stressvmap.result import Finding, RunResult


def run_of(version: str, *findings: Finding, metrics: dict[str, float] | None = None) -> RunResult:
    return RunResult(
        "stress", version, "d", "threads", "", 1, {}, schedules=3, operations=5, findings=list(findings),
        metrics=metrics or {},
    )  # fmt: skip


def finding(check: str, fingerprint: str, *, known: bool, count: int) -> Finding:
    return Finding(check, fingerprint, check, "", count, known)


def cells(lines: list[str], label: str) -> list[str]:
    (line,) = [line for line in lines if line.strip().startswith(label)]
    return line.strip().removeprefix(label).split()


def lines_of(runs: list[RunResult]) -> list[str]:
    return [line.plain for line in table(runs)]


def test_each_version_is_a_column_that_sums_its_runs() -> None:
    lines = lines_of([
        run_of("v6.4", finding("leak", "a" * 12, known=True, count=1000), metrics={"owed_pages": 4}),
        run_of("v6.4", finding("leak", "a" * 12, known=True, count=234), metrics={"owed_pages": 5}),
        run_of("v6.5", finding("leak", "b" * 12, known=False, count=2), metrics={"owed_pages": 1234567}),
    ])  # fmt: skip
    assert cells(lines, "executions with a violation of") == ["v6.4", "v6.5"]
    assert cells(lines, "leak aaaaaaaaaaaa") == ["1,234", "known", "-"]
    assert cells(lines, "leak bbbbbbbbbbbb") == ["-", "2", "NEW"]
    assert cells(lines, "pages owed") == ["9", "1,234,567"]
    assert cells(lines, "operations") == ["10", "5"]


def test_what_was_not_measured_is_not_zero() -> None:
    assert cells(lines_of([run_of("v6.4")]), "pages flushed again") == ["not", "measured"]


def test_it_fits_80_columns_however_many_versions() -> None:
    worst = finding("stale-after-unmap-aliases", "a" * 12, known=True, count=1234567)
    runs = [run_of(f"my_very_long_patch.py:Version{n}", worst, metrics={"flushed_pages": 123456789}) for n in range(7)]
    lines = lines_of(runs)
    assert max(map(len, lines)) <= 80
    assert sum("flush calls" in line for line in lines) == 3
