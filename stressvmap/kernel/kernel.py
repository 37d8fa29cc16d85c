# SPDX-License-Identifier: GPL-2.0-only
"""One booted machine with everything <linux/*.h> offers: what a version of vmalloc is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stressvmap.kernel.machine import Machine
from stressvmap.kernel.memory import Frames, Memory
from stressvmap.kernel.rcu import Rcu
from stressvmap.kernel.workqueue import Workqueue
from stressvmap.runtime.runtime import Runtime
from stressvmap.runtime.task import Task

INTERRUPT_TASKS = 1000
"""Task id of CPU 0's interrupt pseudo-task; CPU n's is n more. Ids do not depend on the program, so shrinking
renumbers nothing.
"""
KWORKER_TASKS = 2000
RCU_TASK = 3000


class Kernel:
    """Machine, memory, RCU and workqueue of one execution, with their daemons spawned on `runtime`."""

    def __init__(
        self,
        runtime: Runtime,
        possible: Sequence[int],
        online: Sequence[int],
        *,
        debug_pagealloc: bool = False,
        full_flush_ceiling_pages: int = 0,
        kworkers: int = 1,
    ) -> None:
        self.machine = Machine(runtime, possible, online)
        self.debug_pagealloc = debug_pagealloc
        self.frames = Frames(self.machine)
        self.memory = Memory(self.machine, self.frames, full_flush_ceiling_pages)
        for cpu in possible:
            task = Task(INTERRUPT_TASKS + cpu, f"irq/{cpu}", cpu, self._serve(cpu), is_daemon=True, is_interrupt=True)
            self.memory.interrupt_tasks[cpu] = task
            runtime.spawn(task)
        workers = [
            _daemon(runtime, KWORKER_TASKS + n, f"kworker/u:{n}", online[n % len(online)]) for n in range(kworkers)
        ]
        self.workqueue = Workqueue(self.machine, workers)
        self.rcu = Rcu(self.machine, _daemon(runtime, RCU_TASK, "rcuog", online[0]))

    def _serve(self, cpu: int) -> Callable[[], None]:
        return lambda: self.memory.serve_interrupts(cpu)


def _daemon(runtime: Runtime, id: int, name: str, cpu: int) -> Task:
    task = Task(id, name, cpu, _nothing, is_daemon=True)
    runtime.spawn(task)
    return task


def _nothing() -> None:
    return None
