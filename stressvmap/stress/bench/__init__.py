# SPDX-License-Identifier: GPL-2.0-only
"""The project's own benchmark: `make bench`, `python -m stressvmap.stress.bench`.

Ratios within one run, each measured several times in turn, with their spread: absolute figures wander with the machine,
a ratio of two things run in turn does not. A mark is what a ratio is meant to reach; missing one is told, not an error.
"""
