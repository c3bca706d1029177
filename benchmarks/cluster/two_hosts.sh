#!/usr/bin/env bash
# Two hosts on one machine: each with a network, an address, a name and processes of its own; they share the files.
#
#   benchmarks/cluster/two_hosts.sh                                  the trainings of two_hosts.py
#   benchmarks/cluster/two_hosts.sh bash -c '$ON_HOST1 ping -c 1 host2'
#
# $ON_HOST1 and $ON_HOST2 run a command on a host; killing what they started cuts its power, and
# 'ip -n host2 link set eth0 down' pulls its cable. Made of Linux namespaces (iproute2, util-linux), by root or, where
# users may make namespaces, by anybody; they vanish with the command. The machine's own network is not touched.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
if [ "${INSIDE_TWO_HOSTS:-}" != yes ]; then
    as_root=(--map-root-user)
    [ "$(id -u)" = 0 ] && as_root=()
    INSIDE_TWO_HOSTS=yes exec unshare "${as_root[@]}" --net --mount --uts --pid --fork --kill-child --mount-proc "$0" "$@"
fi
export PATH="$root/.venv/bin:$PATH:/usr/sbin:/sbin"
if [ $# -eq 0 ]; then
    set -- python "$root/benchmarks/cluster/two_hosts.py"
fi

mount -t tmpfs tmpfs /run
mkdir /run/netns
for number in 1 2; do
    ip netns add "host$number"
    other=$((3 - number))  # what Debian writes: a host's own name stands for the loopback device
    printf '127.0.0.1 localhost\n127.0.1.1 host%s\n10.77.0.%s host%s\n' "$number" "$other" "$other" > "/run/hosts$number"
    ip -n "host$number" link set lo up
done
ip -n host1 link add eth0 type veth peer name eth0 netns host2
for number in 1 2; do
    ip -n "host$number" address add "10.77.0.$number/24" dev eth0
    ip -n "host$number" link set eth0 up
    ip -n "host$number" route add default via "10.77.0.$((3 - number))"
done

cat > /run/on << 'ON'
#!/bin/sh
host=$1
shift
exec nsenter --net="/run/netns/$host" unshare --uts --pid --fork --kill-child --mount-proc \
    sh -c 'hostname "$0" && mount --bind "/run/hosts${0#host}" /etc/hosts && exec "$@"' "$host" "$@"
ON
chmod +x /run/on
export ON_HOST1="/run/on host1" ON_HOST2="/run/on host2"
"$@"
