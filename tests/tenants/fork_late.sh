#!/bin/bash
# SPDX-License-Identifier: MIT
# Children that fork just while they get a pool of their own: see fork_late.c.
. "$(dirname "$0")/lib.sh"
tenant_begin 192M 64M
c_tenant fork_late
