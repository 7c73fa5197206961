#!/bin/bash
# SPDX-License-Identifier: MIT
# The short form of the matrix: small programs with small loads, bare and under claims. See matrix.sh.
exec "$(dirname "$0")/matrix.sh" --short
