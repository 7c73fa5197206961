#!/bin/bash
# SPDX-License-Identifier: MIT
# Heap memory that is protected, locked, remapped, advised and given to pipes: see traps_memory.c.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/traps.sh"
tenant_begin 256M 32M
traps_tenant traps_memory
