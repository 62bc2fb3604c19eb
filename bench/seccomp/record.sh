#!/bin/bash
# Records which system calls nginx, redis and python make under a load, as
# mix/NAME.txt: lines "NAME COUNT", the most frequent first. Calls that Docker's
# default profile decides by an argument have it as third word, in hexadecimal,
# and a line for each of its values.
#
#   bench/seccomp/record.sh
#
# On Debian: apt-get install nginx-light redis-server python3 strace apache2-utils
# The servers listen on the loopback interface only. The results are committed,
# so that nobody needs to record them again for the benchmark.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
dir=$(mktemp -d /var/tmp/brig-record-XXXXXX)
traced=
trap 'kill $traced 2>/dev/null || :; wait; rm -rf "$dir"' EXIT

# trace NAME COMMAND... starts a command under strace. There is no clone3 for it,
# as in a container with the default profile; it falls back to clone.
trace() {
	strace -f -qq --signal=none -e raw=all -e inject=clone3:error=ENOSYS -o "$dir/$1.trace" "${@:2}" &
	traced=$!
}

# save NAME DESCRIPTION waits for the traced command and writes its mix. A call
# that was interrupted by another thread's has a second line, "<... NAME
# resumed>", which does not count.
save() {
	wait "$traced" || :
	traced=
	{
		echo "# $2"
		echo "# Recorded by record.sh with $(strace -V | head -1 | sed 's/ -- / /') on Linux $(uname -r | sed 's/-.*//'), $(uname -m)."
		awk '$2 ~ /^[a-z_0-9]+\(/ {
			name = substr($2, 1, index($2, "(") - 1)
			if (name ~ /^(socket|clone|personality)$/) {
				arg = substr($2, index($2, "(") + 1)
				sub(/[,)].*/, "", arg)
				name = name " " (arg ~ /^0x/ ? arg : sprintf("%#x", arg))
			}
			count[name]++
		}
		END { for (c in count) { split(c, w, " "); print w[1], count[c], w[2] } }' "$dir/$1.trace" |
			sed 's/ $//' | sort -k2,2nr -k1,1
	} >"$here/mix/$1.txt"
}

# until_true COMMAND... waits at most 10 s.
until_true() {
	for ((i = 0; i < 100; i++)); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.1
	done
	echo "record.sh: $* does not come true" >&2
	exit 1
}

record_nginx() {
	mkdir "$dir/www" "$dir/logs"
	head -c 1000 /dev/zero >"$dir/www/small"
	head -c 100000 /dev/zero >"$dir/www/large"
	cat >"$dir/nginx.conf" <<-END
		daemon off;
		worker_processes 2;
		error_log $dir/logs/error.log;
		pid $dir/nginx.pid;
		events { worker_connections 256; }
		http {
			access_log $dir/logs/access.log;
			sendfile on;
			tcp_nopush on;
			gzip on;
			server {
				listen 127.0.0.1:18080;
				root $dir/www;
				location /proxy/ { proxy_pass http://127.0.0.1:18080/; }
			}
		}
	END
	chmod 755 "$dir"
	trace nginx nginx -c "$dir/nginx.conf"
	until_true ab -q -n 1 http://127.0.0.1:18080/small
	ab -q -n 1000 -c 4 http://127.0.0.1:18080/small >/dev/null
	ab -q -n 1000 -c 4 -k http://127.0.0.1:18080/small >/dev/null
	ab -q -n 300 -c 4 -k http://127.0.0.1:18080/large >/dev/null
	ab -q -n 200 -c 4 http://127.0.0.1:18080/missing >/dev/null
	ab -q -n 300 -c 4 -k http://127.0.0.1:18080/proxy/small >/dev/null
	kill -QUIT "$(cat "$dir/nginx.pid")"
	save nginx "nginx $(dpkg-query -Wf '${Version}' nginx-light): start, 2800 requests (static files small and large, a missing one, a proxied one; with and without keep-alive), stop"
}

record_redis() {
	mkdir "$dir/redis"
	trace redis redis-server --bind 127.0.0.1 --port 16379 --dir "$dir/redis" --appendonly yes
	until_true redis-cli -p 16379 ping
	redis-benchmark -q -p 16379 -n 1000 -c 8 -t ping,set,get,incr,lpush,rpop,sadd,hset,lrange_100 >/dev/null
	redis-benchmark -q -p 16379 -n 4000 -c 8 -P 8 -t set,get >/dev/null
	redis-cli -p 16379 bgsave >/dev/null
	sleep 1
	redis-cli -p 16379 shutdown nosave >/dev/null || :
	save redis "redis $(dpkg-query -Wf '${Version}' redis-server): start, redis-benchmark with and without pipelining, an append-only file, a snapshot in the background, stop"
}

record_python() {
	mkdir "$dir/python"
	trace python env -i PATH=/usr/bin:/bin TMPDIR="$dir/python" /usr/bin/python3 "$here/workload.py"
	save python "python3 $(dpkg-query -Wf '${Version}' python3): workload.py (imports, files, subprocesses, threads, sockets, a small web server, sqlite)"
}

record_nginx
record_redis
record_python
wc -l mix/*.txt
