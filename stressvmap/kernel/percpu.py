# SPDX-License-Identifier: GPL-2.0-only
"""Per-CPU data (<linux/percpu.h>): one instance for each *possible* CPU, whether it is online or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from stressvmap.kernel.machine import Machine
from stressvmap.runtime.access import CHANGES

T = TypeVar("T")


class PerCpu(Generic[T]):
    """A per-CPU variable. Reaching for the instance of a CPU that is not possible warns, and gives memory no walk
    over the possible CPUs visits.
    """

    def __init__(self, machine: Machine, name: str, make: Callable[[int], T]) -> None:
        self.machine = machine
        self.name = name
        self._make = make
        self._instances = {cpu: make(cpu) for cpu in machine.possible}

    def per_cpu(self, cpu: int) -> T:
        """per_cpu(variable, cpu)."""
        if cpu not in self.machine.possible:
            self.machine.runtime.note(("per-cpu", self.name, cpu), CHANGES)
        if cpu not in self._instances:
            self.machine.WARN_ON(True, "per-CPU data of a CPU that is not possible")
            self._instances[cpu] = self._make(cpu)
        return self._instances[cpu]

    def raw_cpu_ptr(self) -> T:
        """The instance of the CPU the task is on now; the task may be elsewhere a step later."""
        return self._instances[self.machine.runtime.current.cpu]

    def instances(self) -> list[tuple[int, T]]:
        """Every instance that exists, by CPU, ascending: for audits."""
        return sorted(self._instances.items(), key=lambda item: item[0])
