#!/bin/sh
# What a container of the broker begins with. Arguments are those of amqp-broker: "serve", which is the default, or any
# other command; "rabbitmq-server", from a compose file that was written for RabbitMQ's image, is taken for "serve".
# What amqp-broker does not know, and the system does, is run as it is: docker run --rm -it IMAGE bash.
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
case $1 in
rabbitmq-server)
    shift
    set -- serve "$@"
    ;;
serve | -*) ;;
*)
    if ! amqp-broker "$1" --help >/dev/null 2>&1 && command -v "$1" >/dev/null; then
        exec "$@"
    fi
    ;;
esac
# The image has administrators listened for everywhere, which would be refused where nobody is listened for.
if [ "${AMQP_BROKER_MANAGEMENT_PORT:-}${AMQP_BROKER_METRICS_PORT:-}" = -1-1 ]; then
    unset AMQP_BROKER_MANAGEMENT_HOST
fi
config=/etc/amqp-broker/broker.toml
if [ "$1" = serve ] && [ -r "$config" ]; then
    shift
    set -- serve --config "$config" "$@"
fi
trap "" HUP # until the broker takes it over: while Python loads, it would end it
exec amqp-broker "$@"
