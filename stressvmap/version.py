# SPDX-License-Identifier: GPL-2.0-only
"""The version of this package, in the one place that packaging and `--version` both read."""

__version__ = "0.1.0"
