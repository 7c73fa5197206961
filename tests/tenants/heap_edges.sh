#!/bin/bash
# SPDX-License-Identifier: MIT
# The malloc family from 1 byte to 300 MiB, threads that come and go, fork: see heap_edges.c.
. "$(dirname "$0")/lib.sh"
tenant_begin 1G 256M
c_tenant heap_edges
