# SPDX-License-Identifier: GPL-2.0-only
"""A program is data: what each task does, on numbered slots, and which faults and migrations are injected.

Each backend interprets it by itself. A slot is a numbered cell shared by all tasks: `MAP` fills it if it is empty,
`UNMAP` takes what lies in it; an operation on a slot that does not fit (map into a full one, unmap of an empty one)
is skipped, so that no interleaving makes a program meaningless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAP = "map"  # vm_map_ram(pages) into slot
UNMAP = "unmap"  # vm_unmap_ram of what lies in slot
VMALLOC = "vmalloc"  # vmalloc(pages) into slot
VMALLOC_RESET = "vmalloc-reset"  # vmalloc with VM_FLUSH_RESET_PERMS into slot
VFREE = "vfree"  # vfree of what lies in slot (reset or not, as it was allocated)
VFREE_ATOMIC = "vfree-atomic"  # vfree_atomic, preemption off: a work frees it later; skipped if it resets
ALIASES = "aliases"  # vm_unmap_aliases()
TOUCH = "touch"  # read every page of what lies in slot, through this CPU's TLB (fills it)
PROBE = (
    "probe"  # read, fault-tolerantly, the pages that last lay in slot before it was emptied: the stale-access witness
)
MIGRATE = "migrate"  # the task asks to move to CPU `pages`
OFFLINE = "offline"  # CPU `pages` goes offline
ONLINE = "online"  # CPU `pages` comes online
SHRINK = "shrink"  # memory pressure: the shrinkers that the version registers, if it does
WALK = "walk"  # read /proc/vmallocinfo, from its beginning to its end
PAUSE = "pause"  # do nothing for `pages` scheduling points

KINDS = frozenset(
    {
        PAUSE,
        MAP,
        UNMAP,
        VMALLOC,
        VMALLOC_RESET,
        VFREE,
        VFREE_ATOMIC,
        ALIASES,
        TOUCH,
        PROBE,
        MIGRATE,
        OFFLINE,
        ONLINE,
        SHRINK,
        WALK,
    }
)
WHOLE = frozenset({ALIASES, SHRINK, WALK})
"""Operations that name nothing."""


@dataclass(frozen=True, slots=True)
class ProgramOp:
    """One operation: `kind` (above), the slot it works on, and a size in pages (or a CPU, where the kind says so)."""

    kind: str
    slot: int = 0
    pages: int = 0


@dataclass(frozen=True, slots=True)
class TaskProgram:
    """What one task does. `role` is `worker` or `flusher`, for the reader only."""

    cpu: int
    ops: tuple[ProgramOp, ...]
    role: str = "worker"


@dataclass(frozen=True, slots=True)
class Fault:
    """The `nth` (from 0) request of `kind` made by task `task` fails. Kinds: kernel/faults.py names them."""

    kind: str
    task: int
    nth: int


@dataclass(frozen=True, slots=True)
class Migration:
    """At its `point`-th scheduling point, or the first one after it where it is preemptible, task `task` moves to
    CPU `cpu`.
    """

    task: int
    point: int
    cpu: int


@dataclass(frozen=True, slots=True)
class Program:
    """Everything one execution does, drawn up front. Task ids are 1.. in the order of `tasks`."""

    tasks: tuple[TaskProgram, ...]
    faults: tuple[Fault, ...] = ()
    migrations: tuple[Migration, ...] = ()

    @property
    def operations(self) -> int:
        """Number of operations over all tasks."""
        return sum(len(task.ops) for task in self.tasks)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        return {
            "tasks": [
                {"cpu": t.cpu, "role": t.role, "ops": [[op.kind, op.slot, op.pages] for op in t.ops]}
                for t in self.tasks
            ],
            "faults": [[f.kind, f.task, f.nth] for f in self.faults],
            "migrations": [[m.task, m.point, m.cpu] for m in self.migrations],
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Program:
        """The inverse of `as_dict`. Raises KeyError, TypeError or ValueError on what is no program."""
        tasks = tuple(
            TaskProgram(int(t["cpu"]), tuple(ProgramOp(*op) for op in t["ops"]), str(t["role"])) for t in data["tasks"]
        )
        faults = tuple(Fault(*fault) for fault in data["faults"])
        return Program(tasks, faults, tuple(Migration(*migration) for migration in data["migrations"]))
