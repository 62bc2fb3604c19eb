#!/bin/bash
# Learns what real servers need, proves it, and prints a table in Markdown:
# capabilities that were verified, system calls allowed and verified, those that
# the server's code can reach, and how long that took. docs/servers.md has the
# result for one machine.
#
#   sudo bench/learn.sh [-o DIR] [NAME...]
#
# The servers are Debian's, in one image that is made once (some minutes,
# by debootstrap). The probes need busybox, of Debian's package busybox-static, and
# those of openssh-client, postgresql-client and mariadb-client. Each uses the
# server, has it reload, or talks its protocol.
# Policies are left in DIR.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin CGO_ENABLED=0
out=
if [ "${1-}" = -o ]; then out=$(realpath "$2"); shift 2; fi
dir=$(mktemp -d /var/tmp/brig-learn-XXXXXX)
trap 'rm -rf "$dir"' EXIT
out=${out:-$dir}
mkdir -p "$out"
export BRIG_ROOT=$dir/root
go build -o "$dir/brig" ./cmd/brig
export PATH=$dir:$PATH

packages=nginx-light,redis-server,memcached,postgresql,python3-minimal,libpython3-stdlib,busybox-static,ntpsec,haproxy,bind9,openssh-server,mariadb-server,rabbitmq-server,nodejs,libedit2,libgnutls30,libnettle8,libseccomp2
cache=${BRIG_TEST_CACHE:-/var/cache/brig-test}/servers-2.tar
if [ ! -e "$cache" ]; then
	mkdir -p "$(dirname "$cache")"
	mirror=$(grep -rhoE 'https?://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 || true)
	debootstrap --variant=minbase --include=$packages bookworm "$dir/debian" ${mirror:-http://deb.debian.org/debian} >&2
	mkdir -p "$dir/debian/run/sshd"
	# Debian lets chrony and ntpsec not be installed together; they can lie side by side.
	(cd "$dir" && apt-get -qq download chrony 2>/dev/null && dpkg --fsys-tarfile chrony_*.deb | tar -C debian --keep-directory-symlink -x)
	echo '_chrony:x:990:990::/var/lib/chrony:/usr/sbin/nologin' >>"$dir/debian/etc/passwd"
	echo '_chrony:x:990:' >>"$dir/debian/etc/group"
	tar -C "$dir/debian" --numeric-owner --xattrs --one-file-system -cf "$cache.new" --exclude='./proc/*' --exclude='./sys/*' \
		--exclude='./dev/*' --exclude='./var/cache/*' --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' .
	mv "$cache.new" "$cache"
	rm -rf "$dir/debian"
fi
brig import "$cache" servers >/dev/null

# A fault that no denial goes with is tried twice, so a slow machine does not
# make parts verified that are not needed.
learn() { # NAME PROGRAMS PROBE [FLAGS --] COMMAND...
	local name=$1 programs=$2 probe=$3 flags=()
	shift 3
	if [ -n "${wanted-}" ] && ! [[ " $wanted " == *" $name "* ]]; then return; fi
	while [ "$1" != -- ]; do flags+=("$1"); shift; done
	shift
	if ! brig learn --timeout 90s --probe-timeout 15s --probe "$probe" --shrink -o "$out/$name.json" "${flags[@]}" servers "$@" >"$out/$name.log" 2>&1; then
		echo "| $name | not learned: $(tail -1 "$out/$name.log") | | | | |"
		return
	fi
	local caps calls verified reached runs
	caps=$(awk '$2 == "verified" {printf "%s ", $1}' <(sed -n '/^CAPABILITY/,/capabilities granted/p' "$out/$name.log"))
	calls=$(sed -n 's/.*; \([0-9]*\) system calls allowed.*/\1/p' "$out/$name.log")
	verified=$(sed -n 's/.*allowed, \([0-9]*\) of.*/\1/p' "$out/$name.log")
	reached=$(brig policy check --program "$programs" servers "$out/$name.json" 2>/dev/null | sed -n 's/.*: \([0-9]*\) system calls can be reached.*/\1/p')
	runs=$(sed -n 's/^\([0-9]* containers in .*\)/\1/p' "$out/$name.log")
	echo "| $name | ${caps:-none} | $calls | $verified | $reached | $runs |"
}

wanted=$*
echo '| server | capabilities, all verified | system calls allowed | of them verified | reached by its code | runs |'
echo '|---|---|---|---|---|---|'
# Once it works, it reloads, and must still work.
twice() { echo "$1 && brig kill -s HUP \$BRIG_CONTAINER >/dev/null && sleep 0.2 && $1"; }
learn nginx nginx "$(twice "busybox wget -qO- http://127.0.0.1/ | grep -q 'Welcome to nginx'")" \
	--stop-signal QUIT --tmpfs /var/log/nginx -- nginx -g 'daemon off; error_log stderr;'
learn redis redis-server "printf 'SET a b\r\nBGSAVE\r\nGET a\r\nQUIT\r\n' | busybox nc -w 2 127.0.0.1 6379 | grep -q '^b'" \
	-u redis -w /tmp -- redis-server --dir /tmp
learn memcached memcached "printf 'set a 0 0 1\r\nb\r\nget a\r\nquit\r\n' | busybox nc -w 2 127.0.0.1 11211 | grep -q '^b'" \
	-- memcached -u nobody
learn postgres /usr/lib/postgresql/15/bin/postgres "$(twice "psql -h 127.0.0.1 -U postgres -Atc 'create temp table t as select 42 as n; select n from t' | grep -qx 42")" \
	-u postgres --stop-signal INT -- sh -c 'cd /usr/lib/postgresql/*/bin && ./initdb -D /tmp/db >/dev/null && exec ./postgres -D /tmp/db -k /tmp'
learn python python3 "busybox wget -qO- http://127.0.0.1:8000/ | grep -q 'Directory listing'" \
	-u nobody -w /srv --stop-signal INT -- python3 -m http.server
learn busybox-httpd busybox "busybox wget -qO- http://127.0.0.1/passwd | grep -q root" -- busybox httpd -f -h /etc
ntp='exec 3<>/dev/udp/127.0.0.1/123; { printf "\043"; head -c 47 /dev/zero; } | dd bs=48 iflag=fullblock status=none >&3; test $(timeout 1 head -c 48 <&3 | wc -c) = 48'
learn ntpsec ntpd "bash -c '$ntp'" \
	--cap-add SYS_TIME,SYS_NICE -- sh -c "printf 'disable ntp\\ndisable kernel\\n' > /tmp/c && exec ntpd -n -c /tmp/c -u ntpsec"
learn chrony chronyd "bash -c '$ntp'" \
	--stop-signal INT -- sh -c "printf 'local stratum 8\\nallow 127/8\\ncmdport 0\\nuser _chrony\\npidfile /tmp/pid\\nbindcmdaddress /\\n' > /tmp/c && exec chronyd -d -x -f /tmp/c"
learn haproxy haproxy "$(twice "busybox wget -qO- http://127.0.0.1:8080/ | grep -q hello")" \
	--stop-signal USR1 -- sh -c "printf 'global\n user haproxy\n group haproxy\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 5s\nlisten web\n bind :8080\n http-request return status 200 content-type text/plain string hello\n' > /tmp/c && exec haproxy -W -db -f /tmp/c"
learn bind9 named "$(twice "busybox nslookup localhost 127.0.0.1 | grep -q '::1\|127.0.0.1\$'")" --tmpfs /var/cache/bind:mode=1777 -- named -g -u bind
# A login with a key: sshd changes its user, and reads what is root's.
ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
learn openssh /usr/sbin/sshd "ssh -F none -i $dir/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null nobody@127.0.0.1 id -un 2>/dev/null | grep -q '^nobody\$'" \
	-v "$dir/key.pub:/key.pub:ro" -- sh -c 'mkdir -p /run/sshd && usermod -s /bin/sh nobody && install -m 644 /key.pub /etc/ssh/keys && exec /usr/sbin/sshd -D -e -o AuthorizedKeysFile=/etc/ssh/keys'
learn mariadb mariadbd "$(twice "mariadb --no-defaults -h 127.0.0.1 -u root -BNe 'create or replace table test.t as select 42 as n; select n from test.t' | grep -qx 42")" \
	-u mysql -- sh -c 'mysql_install_db --datadir=/tmp/db --auth-root-authentication-method=normal >/dev/null && exec mariadbd --datadir=/tmp/db --socket=/tmp/s --pid-file=/tmp/p --bind-address=127.0.0.1'
learn node node "busybox wget -qO- http://127.0.0.1:8080/ | grep -q hello" \
	-u nobody -- node -e 'require("http").createServer((q, r) => r.end("hello")).listen(8080); process.on("SIGTERM", () => process.exit(0))'
learn rabbitmq /usr/lib/erlang/erts-13.1.5/bin/beam.smp "printf 'AMQP\000\000\011\001' | busybox nc -w 1 127.0.0.1 5672 | grep -q RabbitMQ" \
	-u rabbitmq --tmpfs /var/lib/rabbitmq:mode=1777 --tmpfs /var/log/rabbitmq:mode=1777 -e HOME=/tmp -- rabbitmq-server
