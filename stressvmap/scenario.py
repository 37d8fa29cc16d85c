# SPDX-License-Identifier: GPL-2.0-only
"""What a run does, as plain frozen data: the machine, the workload and its sizes, faults and limits.

`Scenario.validate` holds the kernel's own constraints; where the values come from (a file, the command line) is
config's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stressvmap.errors import ConfigError

SWARM = "swarm"
WORKLOADS = ("mixed", "fill-block", "pinned", "churn", "fragment", "cross-cpu", "seccomp-teardown", "flushing", SWARM)
TASKS_MAX = 899
"""Of a program: from 900 on ids mean tasks of the machine's own."""
WINDOWS = ("vb-lock", "purge-lock", "publication", "clear-to-accounting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario. Sizes are pages, rates are probabilities in [0, 1] unless a name says otherwise."""

    workload: str = "mixed"
    cpus: int = 4
    """Number of possible CPUs: ids 0..cpus-1, unless `possible` lists them."""
    possible: tuple[int, ...] = ()
    """The possible CPU ids, sorted, may be sparse; empty: 0..cpus-1."""
    offline: tuple[int, ...] = ()
    """Possible CPUs that are not online."""
    block_bits: int = 8
    """VMAP_BBMAP_BITS: pages of a vmap block; a power of two, at least 2 * max_alloc."""
    max_alloc: int = 4
    """VMAP_MAX_ALLOC: largest vm_map_ram (pages) that a block serves; a power of two."""
    window_blocks: int = 24
    """Size of the vmalloc window [VMALLOC_START, VMALLOC_END), in blocks."""
    lazy_max: int = 24
    """lazy_max_pages() with the CPUs online at the start: lazily freed pages above which the drain work is queued. It
    follows the CPUs that come and go as the kernel's formula does; 0: that formula itself.
    """
    tasks_per_cpu: int = 1
    operations: int = 10
    """Operations of each worker in one execution."""
    slots: int = 6
    """Numbered cells the workers map into (the workload may use more)."""
    flushers: int = 1
    flushes: int = 3
    """vm_unmap_aliases calls of each flusher in one execution."""
    large_rate: float = 0.05
    """Share of mappings larger than max_alloc (they bypass the blocks)."""
    vmalloc_rate: float = 0.05
    """Share of mappings made by vmalloc."""
    reset_rate: float = 0.0
    """Share of the vmalloc ones that are VM_FLUSH_RESET_PERMS (their vfree flushes, direct map included)."""
    aliases_rate: float = 0.0
    """Chance that a worker's operation is vm_unmap_aliases."""
    cross_rate: float = 0.25
    """Chance that a worker unmaps what another task mapped."""
    migration_rate: float = 0.02
    """Expected involuntary migrations per operation; 0 pins tasks."""
    hotplug_rate: float = 0.0
    """Expected CPUs that go offline or come back per operation; its tasks move, its per-CPU data stay."""
    shrink_rate: float = 0.0
    """Chance that the shrinkers run after a worker's operation; nothing where a version has none."""
    walk_rate: float = 0.0
    """Chance that a worker reads /proc/vmallocinfo after an operation."""
    atomic_free_rate: float = 0.0
    """Share of vfrees made where one must not sleep (vfree_atomic): a work does them later. Not of reset ones."""
    fault_rate: float = 0.02
    """Expected injected allocation failures per operation."""
    debug_pagealloc: bool = False
    full_flush_ceiling_pages: int = 0
    """A flush of more pages than this flushes everything (x86: 33); 0: never."""
    witness: bool = True
    """Draw TOUCH and PROBE operations, so that a stale translation is really read through."""
    yield_rate: float = 0.05
    """Thread runtime only: chance per scheduling point of giving way to the other threads."""
    steps_max: int = 200_000
    """Scheduling points after which one execution is given up (inconclusive)."""
    windows: tuple[str, ...] = ()
    """Thread runtime: windows that a foreign step must have fallen into at least once (WINDOWS), or the run is
    inconclusive.
    """
    limits: dict[str, float] = field(default_factory=dict)
    """Efficiency limits that turn a metric into a violation: excess-flush, re-flush, double-count, lock-hold."""

    def possible_cpus(self) -> tuple[int, ...]:
        """Ids of the possible CPUs, ascending."""
        return self.possible or tuple(range(self.cpus))

    def online_cpus(self) -> tuple[int, ...]:
        """Ids of the CPUs online at the start."""
        return tuple(cpu for cpu in self.possible_cpus() if cpu not in self.offline)

    def validate(self) -> None:
        """Raise ConfigError for a value the kernel's constraints forbid; the message starts with the key."""
        _require_power_of_two("block_bits", self.block_bits)
        _require_power_of_two("max_alloc", self.max_alloc)
        if self.block_bits < 2 * self.max_alloc:
            raise ConfigError(
                f"block_bits: {self.block_bits} is less than 2 * max_alloc ({2 * self.max_alloc}), "
                "as VMAP_BBMAP_BITS never is"
            )
        if self.block_bits < 4:
            raise ConfigError(
                f"block_bits: {self.block_bits} is below 4: VMAP_PURGE_THRESHOLD (a quarter of it) would be 0"
            )
        if self.block_bits > 1024:
            raise ConfigError(f"block_bits: {self.block_bits} is above 1024, the kernel's VMAP_BBMAP_BITS_MAX")
        if self.workload not in WORKLOADS:
            raise ConfigError(f"workload: {self.workload!r} is not one of {', '.join(WORKLOADS)}")
        for name in self.windows:
            if name not in WINDOWS:
                raise ConfigError(f"windows: {name!r} is not one of {', '.join(WINDOWS)}")
        self._validate_cpus()
        for key, low, high in (
            ("window_blocks", 2, 1 << 16),
            ("lazy_max", 0, 1 << 30),
            ("tasks_per_cpu", 1, 64),
            ("operations", 1, 10_000_000),
            ("slots", 1, 1 << 16),
            ("flushers", 0, 64),
            ("flushes", 0, 10_000_000),
            ("full_flush_ceiling_pages", 0, 1 << 30),
            ("steps_max", 100, 1 << 40),
        ):
            value: int = getattr(self, key)
            if not low <= value <= high:
                raise ConfigError(f"{key}: {value} is not between {low} and {high}")
        for key in (
            "large_rate",
            "vmalloc_rate",
            "reset_rate",
            "aliases_rate",
            "cross_rate",
            "migration_rate",
            "hotplug_rate",
            "shrink_rate",
            "walk_rate",
            "atomic_free_rate",
            "fault_rate",
            "yield_rate",
        ):
            rate: float = getattr(self, key)
            if not 0.0 <= rate <= 1.0:
                raise ConfigError(f"{key}: {rate} is not between 0 and 1")
        tasks = len(self.online_cpus()) * self.tasks_per_cpu + self.flushers
        if tasks > TASKS_MAX:
            raise ConfigError(
                f"tasks_per_cpu: {self.tasks_per_cpu} on each online CPU, and the flushers, are {tasks} tasks; "
                f"there may be {TASKS_MAX}"
            )
        for key, limit in self.limits.items():
            if key not in ("excess-flush", "re-flush", "double-count", "lock-hold"):
                raise ConfigError(f"limits: {key!r} is not one of excess-flush, re-flush, double-count, lock-hold")
            if limit < 0:
                raise ConfigError(f"limits.{key}: {limit} is negative")

    def _validate_cpus(self) -> None:
        if not 1 <= self.cpus <= 64:
            raise ConfigError(f"cpus: {self.cpus} is not between 1 and 64")
        if self.possible:
            if len(self.possible) != self.cpus:
                raise ConfigError(f"possible: lists {len(self.possible)} CPUs, but cpus is {self.cpus}")
            if list(self.possible) != sorted(set(self.possible)) or self.possible[0] < 0 or self.possible[-1] > 255:
                raise ConfigError(
                    f"possible: {list(self.possible)} is not an ascending list of distinct CPU ids between 0 and 255"
                )
        for cpu in self.offline:
            if cpu not in self.possible_cpus():
                raise ConfigError(
                    f"offline: CPU {cpu} is not a possible CPU ({', '.join(map(str, self.possible_cpus()))})"
                )
        if not self.online_cpus():
            raise ConfigError("offline: leaves no CPU online")


def _require_power_of_two(key: str, value: int) -> None:
    if value < 1 or value & (value - 1):
        raise ConfigError(f"{key}: {value} is not a power of two")
