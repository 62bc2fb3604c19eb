#!/bin/bash
# Measures what a recording costs, with strace beside it in the same run; see
# record/main.go for what is compared. The exit code is 1 if a goal is missed.
#
#   sudo bench/record.sh [-format table|json] [-n ROUNDS] [-calls N] [-requests N]
#
# On Debian: apt-get install strace redis-server redis-tools busybox-static.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin CGO_ENABLED=0
dir=$(mktemp -d /var/tmp/brig-bench-XXXXXX)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/brig" ./cmd/brig
go build -o "$dir/record" ./bench/record
"$dir/record" -dir "$dir" -brig "$dir/brig" "$@"
