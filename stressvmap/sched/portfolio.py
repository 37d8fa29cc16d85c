# SPDX-License-Identifier: GPL-2.0-only
"""The strategies by name, as `--strategy` takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stressvmap.errors import ConfigError
from stressvmap.runtime.strategy import Strategy
from stressvmap.sched.delegate import InTurn
from stressvmap.sched.mixed import MixedStrategy
from stressvmap.sched.pct import DEPTH, DEPTH_MAX, PctStrategy
from stressvmap.sched.pos import PosStrategy
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.round_robin import GRANT_MAX, RoundRobinStrategy
from stressvmap.sched.sticky import STAY, STAY_MAX, StickyStrategy
from stressvmap.sched.surw import SurwStrategy
from stressvmap.sched.switch_points import SWITCHES, SWITCHES_MAX, SwitchPointsStrategy
from stressvmap.sched.twice import Twice

DEFAULT: Final = "mixed"
TWICE: Final = "twice"
DIGITS_MAX: Final = 9
"""Of a whole number, leading zeroes included."""

STRATEGIES: Final[dict[str, str]] = {
    "mixed": "a portfolio of the others, one drawn for each execution",
    "random": "the random walk: any enabled task at each point",
    "sticky": f"stay with probability P at each point, else go to another task (sticky:P, default {STAY:g})",
    "switch-points": f"N switches anywhere in the run (switch-points:N, default {SWITCHES})",
    "pct": f"random priorities and D - 1 change points: bugs of depth D, with a guarantee (pct:D, default {DEPTH})",
    "pos": "random priorities of pending operations, drawn anew where they are dependent",
    "surw": "interleavings of the operations on one object, uniformly; a trial run beside each execution",
    "round-robin": "the tasks in turn, N points each (round-robin:N, default drawn for each execution)",
    TWICE: "twice:STRATEGY runs each of its schedules again and compares: the determinism check",
}
"""Name to one line of help."""

_PLAIN: Final[dict[str, Callable[[int], Strategy]]] = {
    "mixed": MixedStrategy,
    "random": RandomStrategy,
    "sticky": StickyStrategy,
    "switch-points": SwitchPointsStrategy,
    "pct": PctStrategy,
    "pos": PosStrategy,
    "surw": SurwStrategy,
    "round-robin": RoundRobinStrategy,
}
_WITH_PARAMETER: Final[dict[str, Callable[[int, str], Strategy]]] = {
    "sticky": lambda seed, text: StickyStrategy(seed, _probability(text)),
    "switch-points": lambda seed, text: SwitchPointsStrategy(seed, _whole(text, 0, SWITCHES_MAX)),
    "pct": lambda seed, text: PctStrategy(seed, _whole(text, 1, DEPTH_MAX)),
    "round-robin": lambda seed, text: RoundRobinStrategy(seed, _whole(text, 1, GRANT_MAX)),
}


def make_strategy(text: str, seed: int) -> Strategy:
    """The strategy that `text` names: `pct`, `sticky:0.95`, `twice:pct:2`; of several with commas between them,
    execution by execution the next. Raises ConfigError that names the part it does not understand.
    """
    members = [_make_one(part.strip(), seed) for part in text.split(",")]
    return members[0] if len(members) == 1 else InTurn(members)


def _make_one(part: str, seed: int) -> Strategy:
    name, colon, parameter = part.partition(":")
    if name == TWICE:
        if not parameter:
            raise ConfigError("strategy: 'twice' needs a strategy to run twice, as in twice:sticky")
        if parameter.partition(":")[0] == TWICE:
            raise ConfigError(f"strategy: {part[:40]!r}: twice is enough")
        return Twice(_make_one(parameter, seed))
    if name not in _PLAIN:
        raise ConfigError(f"strategy: {name[:40]!r} is not one of {', '.join(STRATEGIES)}")
    if not colon:
        return _PLAIN[name](seed)
    if name not in _WITH_PARAMETER:
        raise ConfigError(f"strategy: {part[:40]!r}: {name} has no parameter")
    try:
        return _WITH_PARAMETER[name](seed, parameter)
    except ValueError as error:
        raise ConfigError(f"strategy: {part[:40]!r}: {error}") from None


def _whole(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX and low <= int(text) <= high):
        raise ValueError(f"{text[:40]!r} is no whole number between {low} and {high}")
    return int(text)


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= STAY_MAX:
        raise ValueError(f"{text[:40]!r} is no probability between 0 and {STAY_MAX}")
    return value
