#!/bin/bash
# SPDX-License-Identifier: MIT
# Threads and system calls write to memory in motion: see writers.c.
. "$(dirname "$0")/lib.sh"
tenant_begin 256M 64M
c_tenant writers --dir "$tenant_tmp"
