#!/bin/sh
# What a container of the broker begins with. Arguments are those of amqp-broker: "serve", which is the default, or any
# other command; "rabbitmq-server", from a compose file that was written for RabbitMQ's image, is taken for "serve".
#
# RABBITMQ_DEFAULT_USER, _PASS and _VHOST make the first user and virtual host, as in RabbitMQ's image, when the data
# folder is new. Each can be read from a file: RABBITMQ_DEFAULT_PASS_FILE=/run/secrets/password.
set -eu

fail() {
    echo "amqp-broker: $1" >&2
    exit 2
}

for name in RABBITMQ_DEFAULT_USER RABBITMQ_DEFAULT_PASS RABBITMQ_DEFAULT_VHOST; do
    eval "file=\${${name}_FILE:-} value=\${$name:-}"
    [ -n "$file" ] || continue
    [ -z "$value" ] || fail "$name and ${name}_FILE are both set: choose one"
    [ -r "$file" ] || fail "${name}_FILE names $file, which cannot be read"
    export "$name=$(cat "$file")"
done

[ $# -gt 0 ] || set -- serve
if [ "$1" = rabbitmq-server ]; then
    shift
    set -- serve "$@"
fi
config=/etc/amqp-broker/broker.toml
if [ "$1" = serve ] && [ -r "$config" ]; then
    shift
    set -- serve --config "$config" "$@"
fi
exec amqp-broker "$@"
