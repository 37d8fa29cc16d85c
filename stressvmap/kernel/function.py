# SPDX-License-Identifier: GPL-2.0-only
"""The one marker a model function carries: which kernel function a step belongs to."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from stressvmap.kernel.machine import Machine

P = ParamSpec("P")
R = TypeVar("R")


class OnMachine(Protocol):
    """Anything that runs on a simulated machine."""

    machine: Machine


S = TypeVar("S", bound=OnMachine)


def kernel_function(function: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Mark a method as the retelling of the kernel function of its name: points and journal entries made in it carry
    that name.
    """
    return kernel_function_named(function.__name__)(function)


def kernel_function_named(name: str) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """The same for a kernel function whose name a Python method cannot have."""

    def mark(function: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        @wraps(function)
        def marked(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            task = self.machine.runtime.current
            outer = task.function
            task.function = name
            try:
                return function(self, *args, **kwargs)
            finally:
                task.function = outer

        marked.kernel_name = name  # type: ignore[attr-defined]
        return marked

    return mark
