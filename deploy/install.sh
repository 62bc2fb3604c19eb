#!/bin/sh
# Installs Brig on the node whose root directory is $HOST: the binary as
# /usr/local/bin/brig-runtime, and the runtime "brig" in containerd's
# configuration. containerd is started anew only if that has changed. Called as
# "install.sh remove", it takes both away.
#
# The configuration is appended to config.toml, and is not a file of its own that
# is imported: containerd 1.x takes a plugin's section from one file only, so that
# an import would hide what the node has set there.
set -eu

host=${HOST:-/host}
brig=${BRIG:-/brig}
restart=${RESTART:-nsenter -t 1 -m -u -i -n -p -- systemctl restart containerd}
conf=$host/etc/containerd/${CONTAINERD_CONFIG:-config.toml}
bin=$host/usr/local/bin/brig-runtime

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

# others prints the configuration without Brig's part.
others() {
	[ ! -e "$conf" ] || sed '/^# BEGIN brig$/,/^# END brig$/d' "$conf"
}

# part prints Brig's part for the rest of the configuration in file $1.
part() {
	case $(sed -n 's/^[[:space:]]*version[[:space:]]*=[[:space:]]*\([0-9]*\).*/\1/p' "$1") in
	3) cri=io.containerd.cri.v1.runtime ;;
	2) cri=io.containerd.grpc.v1.cri ;;
	*) fail "$conf: no version = 2 or 3: convert it first, see containerd config migrate" ;;
	esac
	if grep -q "runtimes['\"]*\.['\"]*brig['\"]*\]" "$1"; then
		fail "$conf: has a runtime brig that is not of this script: remove it first"
	fi
	systemd=false
	! grep -q '^[[:space:]]*SystemdCgroup[[:space:]]*=[[:space:]]*true' "$1" || systemd=true
	echo "# BEGIN brig"
	# With any runtime in the file, containerd forgets the one that it has by itself.
	grep -q 'containerd["'"'"']*\.["'"'"']*runtimes["'"'"']*\.' "$1" || cat <<END
[plugins."$cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."$cri".containerd.runtimes.runc.options]
    SystemdCgroup = $systemd
END
	cat <<END
[plugins."$cri".containerd.runtimes.brig]
  runtime_type = "io.containerd.runc.v2"
  pod_annotations = ["dev.brig.*"]
  container_annotations = ["dev.brig.*"]
  [plugins."$cri".containerd.runtimes.brig.options]
    BinaryName = "/usr/local/bin/brig-runtime"
    SystemdCgroup = $systemd
# END brig
END
}

# replace puts the file $1 in the configuration's place, if it is another.
replace() {
	if [ -e "$conf" ] && cmp -s "$1" "$conf"; then
		rm "$1"
		return
	fi
	[ ! -e "$conf" ] || cp -p "$conf" "$conf.before-brig"
	chmod 644 "$1"
	mv "$1" "$conf"
	echo "changed: $conf"
	$restart
}

new=$conf.brig-new
trap 'rm -f "$new" "$bin.new"' EXIT
mkdir -p "${conf%/*}" "${bin%/*}"
others >"$new"
case ${1:-install} in
install)
	if ! cmp -s "$brig" "$bin"; then
		cp "$brig" "$bin.new"
		chmod 755 "$bin.new"
		mv "$bin.new" "$bin" # by one rename: a container may be starting
		echo "installed: $bin"
	fi
	[ -e "$conf" ] || echo "version = 2" >"$new"
	text=$(part "$new")
	printf '%s\n' "$text" >>"$new"
	replace "$new"
	;;
remove)
	replace "$new"
	rm -f "$bin"
	;;
*) fail "$1: want install or remove" ;;
esac
