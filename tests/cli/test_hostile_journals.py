# SPDX-License-Identifier: GPL-2.0-only
"""`check` and `show` of a journal that somebody made up: a line and a status, never a traceback."""

from __future__ import annotations

from pathlib import Path

from stressvmap.journal.events import API_BEGIN, TLB_INVALIDATE, Event
from stressvmap.journal.journal import Journal
from stressvmap.journal.store import write
from tests.cli.conftest import Command

SOUND: Event = (API_BEGIN, 1, 0, "", 0, "vm_unmap_aliases", 0)


def test_the_commands_say_so_in_a_line_and_a_status(command: Command, tmp_path: Path) -> None:
    bad_header, bad_event = tmp_path / "header.svj", tmp_path / "event.svj"
    write(Journal({"online": [-5]}, [SOUND]), bad_header)
    write(Journal({}, [SOUND, (TLB_INVALIDATE, 1, 1 << 40, "", 0, "", 5)]), bad_event)
    for name in ("check", "show"):
        answer = command(name, str(bad_header))
        assert answer.status == 2
        assert "the header's online is [-5]" in answer.err
        assert command(name, str(bad_event)).status == 4
