# SPDX-License-Identifier: GPL-2.0-only
"""`python -m stressvmap`: the same as the `stressvmap` command."""

import sys

from stressvmap.cli import main

if __name__ == "__main__":
    sys.exit(main())
