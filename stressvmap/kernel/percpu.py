# SPDX-License-Identifier: GPL-2.0-only
"""Per-CPU data (<linux/percpu.h>): one instance for each *possible* CPU, whether it is online or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from stressvmap.journal.events import READ_ONCE, WRITE_ONCE
from stressvmap.kernel.machine import Machine
from stressvmap.kernel.struct import Struct
from stressvmap.runtime.access import CHANGES

T = TypeVar("T")
S = TypeVar("S", bound=Struct)


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


class _Instance(Struct):
    """One CPU's instance of a per-CPU pointer."""

    __slots__ = ()
    STRUCT = "per_cpu_pointer"


class PerCpuPointer(Generic[S]):
    """DEFINE_PER_CPU(type *, name): a pointer for each possible CPU, NULL at boot, used through this_cpu_* alone.

    Such an operation is one marked step that no interrupt and no other task of the CPU can split, and orders nothing
    else. It is done on the CPU where the task is when it does it: whoever moves it there while it stands before that
    step has it use that CPU's instance.
    """

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name
        self._instances = {cpu: _Instance(machine) for cpu in machine.possible}
        for instance in self._instances.values():
            instance.values[name] = None

    def this_cpu_read(self) -> S | None:
        """this_cpu_read(name)."""
        return self._load(self._here(READ_ONCE))

    def this_cpu_xchg(self, new: S | None) -> S | None:
        """this_cpu_xchg(name, new): what was there."""
        instance = self._here(WRITE_ONCE)
        old = self._load(instance)
        self._store(instance, new)
        return old

    def this_cpu_cmpxchg(self, old: S | None, new: S | None) -> S | None:
        """this_cpu_cmpxchg(name, old, new): what was there; `new` is there now if that was `old`."""
        instance = self._here(WRITE_ONCE)
        found = self._load(instance)
        if found is old:
            self._store(instance, new)
        return found

    def values(self) -> list[S | None]:
        """What each CPU's points to, by CPU, ascending: for audits."""
        return [self._instances[cpu].values[self.name] for cpu in sorted(self._instances)]

    def _here(self, kind: int) -> _Instance:
        """The point before an operation; the instance it is done on."""
        runtime = self.machine.runtime
        announced = self._instances[runtime.current.cpu]
        runtime.point(kind, announced.id, self.name)
        instance = self._instances[runtime.current.cpu]
        if instance is not announced:
            runtime.note((instance.id, self.name), CHANGES)
        return instance

    def _load(self, instance: _Instance) -> S | None:
        value: S | None = instance.values[self.name]
        self.machine.record(READ_ONCE, instance.id, self.name, instance.shown(self.name, value))
        return value

    def _store(self, instance: _Instance, value: S | None) -> None:
        instance.values[self.name] = value
        self.machine.record(WRITE_ONCE, instance.id, self.name, instance.shown(self.name, value))
