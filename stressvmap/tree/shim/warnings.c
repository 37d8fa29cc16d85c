// SPDX-License-Identifier: GPL-2.0-only
/* BUG and WARN, and sleeping where one must not: stressvmap/kernel/machine.py. */
#include "shim.h"

void sv_kernel_bug(const char *what)
{
	SV_SITE();
	sv_bug(what);
}

void sv_kernel_warn(const char *what)
{
	SV_SITE();
	sv_warn(what);
}

void sv_kernel_might_sleep(const char *what)
{
	SV_SITE();
	sv_might_sleep(what);
}
