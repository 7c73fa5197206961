/* SPDX-License-Identifier: MIT */
/* The version of these headers; berth_version() tells the library's. */
#ifndef BERTH_VERSION_H
#define BERTH_VERSION_H

#define BERTH_VERSION_MAJOR 0
#define BERTH_VERSION_MINOR 1
#define BERTH_VERSION_PATCH 0
#define BERTH_VERSION_STRING "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* The library's version, "0.1.0". */
const char *berth_version(void);

#ifdef __cplusplus
}
#endif

#endif
