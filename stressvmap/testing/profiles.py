# SPDX-License-Identifier: GPL-2.0-only
"""The Hypothesis profiles that suit a simulated machine."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings


def register_profiles() -> None:
    """Register the Hypothesis profiles `dev`, `ci` and `nightly`; `settings.load_profile` chooses one.

    `dev` draws anew each time and keeps what failed in the example database. `ci` draws the same each time, so that
    what turns it red is the change under test and not the dice; what luck can find, `nightly` looks for. A step's time
    depends on how busy the machine is, so there are no deadlines. Each failure prints the line that reproduces it. The
    explain phase is left out: it traces every line of the model, which takes longer than all the rest.
    """
    health = (HealthCheck.too_slow, HealthCheck.data_too_large)
    phases = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)
    default = settings.get_profile("default")  # not the one in force, which on a CI machine is Hypothesis's own for CI
    base = settings(default, deadline=None, print_blob=True, suppress_health_check=health, phases=phases)
    settings.register_profile("dev", base, max_examples=150, stateful_step_count=50)
    settings.register_profile("ci", base, max_examples=300, stateful_step_count=50, derandomize=True)
    settings.register_profile("nightly", base, max_examples=10_000, stateful_step_count=100)
