# SPDX-License-Identifier: GPL-2.0-only
"""Which Hypothesis profile the tests run with: HYPOTHESIS_PROFILE, or `ci` where CI is set, or `dev`."""

import os

from hypothesis import settings

from stressvmap.testing import register_profiles

pytest_plugins = ["pytester"]

register_profiles()
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
