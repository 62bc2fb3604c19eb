#!/bin/bash
# Measures how long Brig and its peers take to start a container, run true and
# be done, interleaved in one run; see main.go for what is compared.
#
#   sudo bench/start.sh [-n ROUNDS] [-idle-rounds ROUNDS] [-format table|json] [-only brig,crun,...]
#
# Peers that are not installed are left out: on Debian, apt-get install crun
# runc podman busybox-static.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin CGO_ENABLED=0
dir=$(mktemp -d /var/tmp/brig-bench-XXXXXX)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/brig" ./cmd/brig
early=
[ "$(go env GOARCH)" != amd64 ] || early=-E=github.com/brig-run/brig/internal/early.entry # as in the README
go build -ldflags="$early" -o "$dir/small-brig-runtime" ./cmd/brig-runtime
go build -o "$dir/start" ./bench
# On a hybrid machine crun refuses to work while the v2 hierarchy has
# controllers. All measure without it then, in a mount namespace.
if [ -n "$(cat /sys/fs/cgroup/unified/cgroup.controllers 2>/dev/null)" ]; then
	hide='umount /sys/fs/cgroup/unified;'
fi
BRIG_BINARY="$dir/brig" unshare -m sh -c "${hide-} exec \"\$@\"" sh "$dir/start" -dir "$dir" "$@"
