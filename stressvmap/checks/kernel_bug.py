# SPDX-License-Identifier: GPL-2.0-only
"""kernel-bug: the code's own BUG_ON and WARN_ON; on a kernel tree also what would make it oops, and what ends the
process that runs it.
"""

from __future__ import annotations

import re

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.story import StateCheck
from stressvmap.journal.events import BUG, WARN, Event
from stressvmap.journal.journal import DEATH, DIED_OF

_NUMBER = re.compile(r"\b(0x[0-9a-fA-F]+|\d+)\b")


class KernelBug(StateCheck):
    """No BUG_ON and no WARN_ON of the code under test is hit. Numbers in its message are no part of the fingerprint.
    State: none.
    """

    NAME = "kernel-bug"
    NEEDS = frozenset({BUG, WARN})

    def handlers(self) -> dict[int, Handler]:
        return {BUG: self.on_hit, WARN: self.on_hit}

    def on_hit(self, number: int, event: Event) -> None:
        task = self.state.task(event)
        macro = "BUG_ON" if event[0] == BUG else "WARN_ON"
        text = str(event[5])
        how = self.state.journal.header.get(DIED_OF, "")
        steps = [self.step(number, event, f"{macro}: {text}")]
        if task.calls:
            steps.append(self.call_begins(task.calls[0]))
        self.report(
            number,
            Mechanism(self.NAME, (task.entry(),), macro, _NUMBER.sub("N", text), task.lock_classes()),
            f"{macro} hit: {text}",
            steps,
            "should have been: a condition that never holds" + ("; the task dies here" if event[0] == BUG else ""),
            notes=(f"the process ended in or after this step: {how}",) if text == DEATH else (),
        )
