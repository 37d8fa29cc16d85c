# SPDX-License-Identifier: GPL-2.0-only
"""The marker of tests that need kernel sources."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "trees: needs kernel sources (`make trees`); leave out with -m 'not trees'")
