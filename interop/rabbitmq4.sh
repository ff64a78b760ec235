#!/usr/bin/env bash
# Makes a root folder of its own with RabbitMQ 4 from Debian trixie, for the interop suite: no container, no change to this
# machine's packages. What is there already is kept, so it takes minutes once and nothing afterwards.
#
#     interop/rabbitmq4.sh             says where the folder is
#
# The folder is $AMQP_BROKER_RABBITMQ_4, or ~/.cache/amqp-broker/rabbitmq-4. Exit code 0: it is there; 3: it cannot be made
# here, and the last line says why.
set -u -o pipefail

folder=${AMQP_BROKER_RABBITMQ_4:-${XDG_CACHE_HOME:-$HOME/.cache}/amqp-broker/rabbitmq-4}
mirror=${AMQP_BROKER_DEBIAN_MIRROR:-http://deb.debian.org/debian}

cannot() {
  echo "RabbitMQ 4 is not asked: $*" >&2
  exit 3
}

is_there() { [ -x "$folder/usr/lib/rabbitmq/bin/rabbitmq-server" ] && [ -e "$folder/.complete" ]; }

is_there && { echo "$folder"; exit 0; }
[ "$(id -u)" -eq 0 ] || cannot "its root folder $folder can be made and entered by root only (debootstrap, chroot)"
command -v debootstrap >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q debootstrap; } >&2 ||
  cannot "debootstrap is not installed, and could not be"

mkdir -p "$(dirname "$folder")" || cannot "$(dirname "$folder") cannot be made"
exec 9>"$folder.lock" && flock 9 # another run may be making it
is_there && { echo "$folder"; exit 0; }
rm -rf --one-file-system "$folder"
debootstrap --variant=minbase --include=rabbitmq-server trixie "$folder" "$mirror" >"$folder.log" 2>&1 ||
  cannot "debootstrap failed, see $folder.log: $(tail -n 1 "$folder.log")"
rm -rf "$folder"/var/cache/apt/archives/*.deb "$folder"/var/lib/apt/lists/*
# Without it Erlang asks a name server for localhost.
grep -q localhost "$folder/etc/hosts" 2>/dev/null || printf '127.0.0.1 localhost\n::1 localhost\n' >>"$folder/etc/hosts"
touch "$folder/.complete"
echo "$folder"
