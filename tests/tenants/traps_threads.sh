#!/bin/bash
# SPDX-License-Identifier: MIT
# Heap memory that threads wait on, and stand on: see traps_threads.c.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/traps.sh"
tenant_begin 256M 32M
traps_tenant traps_threads
