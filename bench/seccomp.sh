#!/bin/bash
# Compares Brig's compiler of seccomp filters with libseccomp, gVisor's and
# elastic's, in one run; see seccomp/main.go for what is compared. The recorded
# mixes of system calls are in seccomp/mix.
#
#   bench/seccomp.sh [-format table|json] [-compiles N] [-loads N] [-n ROUNDS] [-calls N]
#
# On Debian: apt-get install gcc libc6-dev libseccomp-dev. The modules of the
# peers come through Go's module proxy. A second libseccomp, unpacked with
# "dpkg -x libseccomp-dev_VERSION.deb DIR", joins with LIBSECCOMP=DIR.
set -euo pipefail
cd "$(dirname "$0")/seccomp"
export PATH=$PATH:/usr/local/go/bin CGO_ENABLED=0
dir=$(mktemp -d /var/tmp/brig-bench-XXXXXX)
trap 'rm -rf "$dir"' EXIT
gcc -O2 -Wall -static -o "$dir/kernel" kernel.c
gcc -O2 -Wall -o "$dir/libseccomp" libseccomp.c -lseccomp
peers=$dir/libseccomp
if [ -n "${LIBSECCOMP-}" ]; then
	gcc -O2 -Wall -I"$LIBSECCOMP/usr/include" -o "$dir/libseccomp-2" libseccomp.c \
		"$(find "$LIBSECCOMP" -name libseccomp.a)"
	peers+=,$dir/libseccomp-2
fi
go build -o "$dir/seccomp" .
"$dir/seccomp" -dir "$dir" -kernel "$dir/kernel" -libseccomp "$peers" "$@"
