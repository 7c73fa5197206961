#!/bin/sh
# SPDX-License-Identifier: MIT
# Make sure that everything Berth needs is installed: setup.sh [-n] [build|demo|check|tenants]
#
#   build  what `make` needs (the default); demo, check and tenants: that, and what those three
#          need. tenants has servers among them: they are kept from being started by the installation
#   -n     install nothing, only say what is missing
#
# As root, or where `sudo -n` works, missing packages are installed through apt-get. Otherwise the
# one line that installs them is printed and the exit status is 1. Silent when nothing is missing.

set -u

install=yes
if [ "${1:-}" = -n ]; then
	install=no
	shift
fi
level=${1:-build}

# The packages, and why each is there.
packages="gcc libc6-dev"                       # the compiler, the C library's headers and libc.a
packages="$packages meson ninja-build"         # the build system (it brings python3) and its engine
packages="$packages pkg-config"                # finds libraries for meson, and berth.pc for users
packages="$packages libjemalloc-dev"           # the heap inside the preload library
packages="$packages libjansson-dev"            # the tool's JSON, in and out
packages="$packages libcmocka-dev"             # the tests' framework
packages="$packages libsqlite3-dev"            # headers for libberth-sqlite, and the library for its test
case $level in
build) ;;
tenants)
	# Each program's file names its packages.
	packages="$packages $("$(dirname "$0")/../tests/tenants/matrix.sh" --packages)"
	;;
demo | check)
	packages="$packages sqlite3"               # a tenant of the demo and the tests
	packages="$packages redis-server redis-tools" # another one, with threads and fork
	packages="$packages python3"               # a third; also counts the tests' results
	packages="$packages libjemalloc2 libmimalloc2.0" # allocators beside ours in berth bench pages
	;;
*)
	echo "usage: $0 [-n] [build|demo|check|tenants]" >&2
	exit 2
	;;
esac
if [ "$level" = check ]; then
	packages="$packages clang"                 # the second compiler that everything passes
	packages="$packages clang-format"          # the format check
fi

# clang's sanitizer runtimes: the package carries clang's major version in its name. Prints nothing
# where there is no such package (older systems ship the runtimes with clang).
clang_runtime()
{
	version=
	if command -v clang >/dev/null; then
		version=$(clang -dumpversion)
	elif command -v apt-cache >/dev/null; then
		version=$(apt-cache show --no-all-versions clang 2>/dev/null |
			sed -n 's/^Version: \([0-9]*:\)\{0,1\}//p')
	fi
	version=${version%%[!0-9]*}
	# Where apt's lists were thrown away it can't say; Debian 12 is known.
	bookworm=
	grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release && bookworm=14
	version=${version:-$bookworm}
	[ -n "$version" ] || return 0
	name=libclang-rt-$version-dev
	if [ "$version" = "$bookworm" ] || installed "$name" ||
		apt-cache show "$name" >/dev/null 2>&1; then
		echo "$name"
	fi
}

installed()
{
	dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

# A program counts as installed wherever it came from; a library's package must be there.
find_missing()
{
	missing=
	have=$(dpkg-query -W -f '${Package}=${db:Status-Status}\n' $packages 2>/dev/null)
	for package in $packages; do
		case $package in
		ninja-build) program=ninja ;;
		redis-tools) program=redis-cli ;;
		lib*) program= ;;
		*) program=$package ;;
		esac
		[ -n "$program" ] && command -v "$program" >/dev/null && continue
		case "
$have
" in
		*"
$package=installed
"*) ;;
		*) missing="$missing $package" ;;
		esac
	done
	if [ "$level" = check ]; then
		runtime=$(clang_runtime)
		[ -n "$runtime" ] && ! installed "$runtime" && missing="$missing $runtime"
	fi
	[ -n "$missing" ]
}

if ! command -v dpkg-query >/dev/null; then
	# Not a Debian or Ubuntu: meson will say what it doesn't find.
	for program in meson ninja pkg-config; do
		command -v $program >/dev/null && continue
		echo "$program is missing; Berth needs what Debian calls: $packages" >&2
		exit 1
	done
	exit 0
fi

# Debian starts a server when it is installed, unless this file says no; one that is there stays.
policy=/usr/sbin/policy-rc.d
forbid_services()
{
	[ ! -e $policy ] || return 0
	trap 'allow_services' EXIT
	trap 'exit 130' INT TERM HUP
	printf '#!/bin/sh\nexit 101\n' | $root tee $policy >/dev/null
	$root chmod 755 $policy
}
allow_services()
{
	$root rm -f $policy
}

find_missing || exit 0

if [ $install = yes ]; then
	root=
	[ "$(id -u)" = 0 ] || root="sudo -n"
	if [ -z "$root" ] || sudo -n true 2>/dev/null; then
		echo "installing:$missing"
		$root apt-get -q update || echo "apt-get update failed; going on with the lists there are" >&2
		find_missing # with fresh lists, the name of clang's runtime package is known
		[ "$level" != tenants ] || forbid_services
		if $root env DEBIAN_FRONTEND=noninteractive \
			apt-get -q install -y --no-install-recommends $missing </dev/null &&
			! find_missing; then
			exit 0
		fi
		echo "the installation failed; still missing:$missing" >&2
	fi
fi
echo "sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
exit 1
