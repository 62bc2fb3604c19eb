#!/bin/bash
# How long brig ps -a takes with 500 containers: half of them run. Medians of 21
# runs, in milliseconds. As root, with busybox in the PATH (busybox-static).
#
#   bench/ps.sh [NUMBER]
#   PRIORITY="chrt -f 50" bench/ps.sh     on a machine that has other work
set -euo pipefail
cd "$(dirname "$0")/.."
number=${1:-500}
dir=$(mktemp -d /var/tmp/brig-bench-ps-XXXXXX)
export BRIG_ROOT=$dir/root
trap '"$dir/brig" rm -f $("$dir/brig" ps -aq) >/dev/null; rm -rf "$dir"' EXIT
CGO_ENABLED=0 go build -o "$dir/brig" ./cmd/brig
mkdir -p "$dir/bb/bin" && cp "$(command -v busybox)" "$dir/bb/bin/sleep"
tar -C "$dir/bb" -c . | "$dir/brig" import - bb >/dev/null
for ((i = 0; i < number; i++)); do
	if ((i % 2)); then
		"$dir/brig" run -d --network none bb sleep 3600 >/dev/null
	else
		"$dir/brig" create --network none bb sleep 3600 >/dev/null
	fi
done
measure() {
	for ((i = 0; i < 21; i++)); do
		start=$(date +%s%N)
		${PRIORITY:-} "$@" >/dev/null
		echo $((($(date +%s%N) - start) / 10000))
	done | sort -n | awk '{ t[NR] = $1 } END { printf "%6.1f ms", t[int((NR + 1) / 2)] / 100 }'
}
echo "brig ps -a, $number containers: $(measure "$dir/brig" ps -a)"
echo "brig ps:                         $(measure "$dir/brig" ps)"
echo "brig version:                    $(measure "$dir/brig" version)"
