#!/bin/bash
# Measures OCI runtimes at what engines have them do: run, create with start and
# delete, exec, in a loop and after 150 ms of idle, interleaved; what a start is
# charged to the container's memory; and with -parallel N how many containers a
# second can be started. See runtimes.go.
#
#   sudo bench/runtime.sh [-n ROUNDS] [-idle-rounds ROUNDS] [-parallel N] [-format table|json]
#
# Peers that are not installed are left out: on Debian, apt-get install crun runc
# busybox-static.
exec "$(dirname "$0")/start.sh" -runtimes "$@"
