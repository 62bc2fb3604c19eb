#!/bin/bash
# Measures containers on a bridge with a published port, Brig's and podman's
# (netavark), interleaved: how long run --rm of true takes, and how much passes
# through the port.
#
#   sudo bench/network.sh [-n ROUNDS] [-t THROUGHPUT_ROUNDS] [-s SECONDS_EACH]
#
# The client of the throughput is another host: a network namespace with a cable to
# this one. Debian packages: podman netavark crun iptables iperf3 jq busybox-static.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin CGO_ENABLED=0
rounds=40 throughput=5 seconds=3
while getopts n:t:s: o; do
	case $o in n) rounds=$OPTARG ;; t) throughput=$OPTARG ;; s) seconds=$OPTARG ;; *) exit 2 ;; esac
done
dir=$(mktemp -d /var/tmp/brig-bench-XXXXXX)
client=brig-bench-$$
port=$((20000 + RANDOM % 10000))
mounts=
cleanup() {
	brig rm -f iperf >/dev/null 2>&1 || true
	podman rm -f -t 0 iperf >/dev/null 2>&1 || true
	brig network prune -f >/dev/null 2>&1 || true
	ip netns del "$client" 2>/dev/null || true
	ip link del "bb$$" 2>/dev/null || true
	kill "$mounts" 2>/dev/null || true
	umount "$dir/podman-root/overlay" 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT
go build -o "$dir/bin/brig" ./cmd/brig
go build -o "$dir/start" ./bench
export BRIG_ROOT="$dir/brig-root" BRIG_BINARY="$dir/bin/brig"
brig() { "$dir/bin/brig" "$@"; }
printf '[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "%s"\n[engine]\nevents_logger = "none"\n' "$dir/networks" >"$dir/containers.conf"
export CONTAINERS_CONF="$dir/containers.conf"
# All of podman's commands in one mount namespace: its network namespaces are mounts.
unshare -m sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec sleep 100000' &
mounts=$!
podman() {
	nsenter -m -t "$mounts" podman --root "$dir/podman-root" --runroot "$dir/podman-run" \
		--storage-driver overlay --cgroup-manager cgroupfs --runtime crun "$@"
}
hide=
if [ -n "$(cat /sys/fs/cgroup/unified/cgroup.controllers 2>/dev/null)" ]; then
	hide='umount /sys/fs/cgroup/unified;' # see start.sh
fi
unshare -m sh -c "$hide exec \"\$@\"" sh "$dir/start" -dir "$dir" -n "$rounds" -idle-rounds 0 -bridge

# An image with iperf3 and its libraries.
img="$dir/image"
mkdir -p "$img/tmp"
for f in $(command -v iperf3) $(ldd "$(command -v iperf3)" | grep -o '/[^ ]*'); do
	install -D "$f" "$img$f"
done
tar -C "$img" -cf "$dir/iperf.tar" .
brig import "$dir/iperf.tar" iperf >/dev/null
podman import -q "$dir/iperf.tar" localhost/iperf >/dev/null

ip netns add "$client"
ip link add "bb$$" type veth peer name c0 netns "$client"
ip addr add 198.18.87.1/30 dev "bb$$"
ip link set "bb$$" up
ip -n "$client" addr add 198.18.87.2/30 dev c0
ip -n "$client" link set c0 up

# Its default subnet may be another bridge's on a machine where it also uses CNI.
podman network create --disable-dns --subnet "10.231.$((RANDOM % 256)).0/24" bench >/dev/null

once() { # engine, flags of its rm: Gbit/s through its published port
	local image=iperf network=bridge
	[ "$1" = brig ] || { image=localhost/iperf network=bench; }
	"$1" run -d --name iperf --network "$network" --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 -p 198.18.87.1:$port:5201 "$image" iperf3 -s >/dev/null
	local try
	for try in $(seq 20); do
		ip netns exec "$client" iperf3 -c 198.18.87.1 -p "$port" -t "$seconds" -J >"$dir/out" 2>/dev/null &&
			jq -e .end.sum_received.bits_per_second "$dir/out" >/dev/null && break # it fails with exit code 0, too
		sleep 0.1
	done
	jq -e .end.sum_received.bits_per_second "$dir/out" >/dev/null || {
		echo "$1: nothing passes: $(jq -c .error "$dir/out")" >&2
		"$1" logs iperf >&2
		return 1
	}
	jq '.end.sum_received.bits_per_second / 1e9' "$dir/out"
	"$1" rm -f "${@:2}" iperf >/dev/null
}
for i in $(seq "$throughput"); do
	once brig >>"$dir/brig.gbit"
	once podman -t 0 >>"$dir/podman.gbit"
done
median() { sort -n "$1" | awk '{v[NR]=$1} END {printf "%.2f\n", v[int((NR+1)/2)]}'; }
b=$(median "$dir/brig.gbit") p=$(median "$dir/podman.gbit")
echo
echo "Gbit/s through a published port, median of $throughput rounds of $seconds s:"
echo "  brig $b, podman $p: brig is $(awk "BEGIN {printf \"%.2f\", $b / $p}") x"
