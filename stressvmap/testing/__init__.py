# SPDX-License-Identifier: GPL-2.0-only
"""The public door for other people's tests (docs/testing.md): all of its names are here.

`machine` is a Hypothesis state machine: calls one after the other. `interleavings` and `run_concurrently` let
Hypothesis draw, and shrink, concurrent programs together with the switches between their tasks. `explore` runs a test
once for each of many executions whose schedules a strategy decides.
"""

from __future__ import annotations

from stressvmap.testing.concurrent import Interleaving, interleavings, run_concurrently
from stressvmap.testing.exploration import explore
from stressvmap.testing.outcome import Outcome
from stressvmap.testing.profiles import register_profiles
from stressvmap.testing.state_machine import VmapStateMachine, machine
from stressvmap.testing.subject import SMALL, known_fingerprints
from stressvmap.testing.violation import VmapViolation

__all__ = [
    "SMALL",
    "Interleaving",
    "Outcome",
    "VmapStateMachine",
    "VmapViolation",
    "explore",
    "interleavings",
    "known_fingerprints",
    "machine",
    "register_profiles",
    "run_concurrently",
]
