/* SPDX-License-Identifier: MIT */
/* The library's own version, which may differ from the headers' that a program was built with. */
#include <berth/berth.h>

const char *berth_version(void)
{
	return BERTH_VERSION_STRING;
}
