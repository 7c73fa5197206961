#!/bin/bash
# SPDX-License-Identifier: MIT
# Threads hold the locks of their FILEs while another one forks: see fork_file_locks.c.
. "$(dirname "$0")/lib.sh"
tenant_begin 192M 64M
c_tenant fork_file_locks --dir "$tenant_tmp"
