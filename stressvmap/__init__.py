# SPDX-License-Identifier: GPL-2.0-only
"""Stress the vmap-block layer of mm/vmalloc.c, retold in Python, and check what every CPU may still translate."""

from stressvmap.version import __version__

__all__ = ["__version__"]
