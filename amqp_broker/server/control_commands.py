"""The commands of the control socket: each checks its arguments, and calls the inspection or the
administration.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from amqp_broker.access.passwords import SCRYPT, SHA256, SHA512, PasswordHash, UnknownAlgorithm, hash_password
from amqp_broker.broker.administration import Administration
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.inspection import SLICE_OBJECTS, Inspection, consumer_info, queue_info
from amqp_broker.broker.policies import OPERATOR_POLICY, POLICY
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.broker.user_administration import password_bytes
from amqp_broker.broker.virtual_host_properties import Metadata
from amqp_broker.server.changes import until_done, when_told
from amqp_broker.server.status import ServerStatus

if TYPE_CHECKING:
    from amqp_broker.server.plugins import Plugins

Arguments = dict[str, Any]

SLICE_COUNTED = 10 * SLICE_OBJECTS  # counting one takes a tenth of what describing it does

# The names that people use for ways of hashing.
ALGORITHMS = {"scrypt": SCRYPT, "sha256": SHA256, "sha512": SHA512}


@dataclass(frozen=True, slots=True)
class Controlled:
    """The broker that the commands of one client act on, and its surroundings.

    Args:
        broker: the broker.
        status: tells how the server is; may take some milliseconds.
        who: the client, for the log.
        tell: sends the client how far something is that takes long; None where it is not to be told.
        plugins: of the broker; None where there are none.
    """

    broker: Broker
    status: Callable[[], ServerStatus]
    who: str
    tell: Callable[[Mapping[str, Any]], Awaitable[None]] | None = None
    plugins: Callable[[], Plugins] | None = None

    @property
    def inspection(self) -> Inspection:
        """What can be seen."""
        return Inspection(self.broker)

    @property
    def administration(self) -> Administration:
        """What can be changed."""
        return self.broker.administration.on_behalf_of(self.who)


Command = Callable[[Controlled, Arguments], Awaitable[Any]]
List = Callable[[Controlled, Arguments], Iterator[Mapping[str, Any]]]


class BadRequest(Exception):
    """An argument is missing or of the wrong kind; the text says which."""


def _text(arguments: Arguments, name: str, default: str | None = None) -> str:
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value


def _texts(arguments: Arguments, name: str) -> tuple[str, ...]:
    value = arguments.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadRequest(f"{name} must be a list of texts")
    return tuple(value)


def _limits(arguments: Arguments, *names: str) -> dict[str, int | None]:
    limits = {name: arguments[name] for name in names if name in arguments}
    for name, value in limits.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise BadRequest(f"{name} must be a number, or nothing for no limit")
    return limits


async def _password(arguments: Arguments) -> PasswordHash | None:
    """The hash of the password that was given, computed where it disturbs nobody."""
    if arguments.get("password") is None:
        return None
    password = password_bytes(_text(arguments, "password"))
    algorithm = _text(arguments, "hash", "scrypt")
    try:
        return await trio.to_thread.run_sync(hash_password, password, ALGORITHMS.get(algorithm, algorithm))
    except UnknownAlgorithm as error:
        raise AdministrationError(str(error)) from error


def _flag(arguments: Arguments, name: str) -> bool:
    value = arguments.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false")
    return value


def _virtual_host(arguments: Arguments) -> str | None:
    """The virtual host that a list is limited to."""
    return None if arguments.get("vhost") is None else _text(arguments, "vhost")


# --- the whole


async def show_status(controlled: Controlled, arguments: Arguments) -> ServerStatus:
    """How the server is, with the counts of all that it has."""
    status = await trio.to_thread.run_sync(controlled.status)
    for step, counts in enumerate(controlled.inspection.count()):
        status["counts"] = counts
        if step % SLICE_COUNTED == 0:
            await trio.lowlevel.checkpoint()
    return status


# --- queues and connections


async def show_queue(controlled: Controlled, arguments: Arguments) -> Mapping[str, Any]:
    """A queue with its consumers and the bindings that lead to it."""
    virtual_host, name = _text(arguments, "vhost"), _text(arguments, "name")
    queue = controlled.administration.queue(virtual_host, name)
    seen: dict[str, Any] = {**queue_info(queue), "consumer_details": list(map(consumer_info, queue.consumers))}
    seen |= queue.details()
    seen["bindings"] = []
    for step, binding in enumerate(controlled.inspection.bindings(virtual_host)):
        if binding["destination_type"] == "queue" and binding["destination"] == name:
            seen["bindings"].append(binding)
        if step % SLICE_OBJECTS == 0:
            await trio.lowlevel.checkpoint()
    return seen


async def purge_queue(controlled: Controlled, arguments: Arguments) -> int:
    """Drop what is ready; returns how many messages that were, when they are forgotten."""
    virtual_host, name = _text(arguments, "vhost"), _text(arguments, "name")
    count, work = await when_told(controlled.broker, lambda: controlled.administration.purge_queue(virtual_host, name))
    await until_done(work)
    return count


async def delete_queue(controlled: Controlled, arguments: Arguments) -> int:
    """Delete a queue; returns how many messages were ready."""
    virtual_host, name = _text(arguments, "vhost"), _text(arguments, "name")
    if_unused, if_empty = _flag(arguments, "if_unused"), _flag(arguments, "if_empty")
    return await when_told(
        controlled.broker,
        lambda: controlled.administration.delete_queue(virtual_host, name, if_unused=if_unused, if_empty=if_empty),
    )


async def delete_super_stream(controlled: Controlled, arguments: Arguments) -> int:
    """Delete a super stream; returns how many partitions it had."""
    return controlled.administration.delete_super_stream(_text(arguments, "vhost"), _text(arguments, "name"))


async def peek_queue(controlled: Controlled, arguments: Arguments) -> Mapping[str, Any]:
    from amqp_broker.server.message_commands import peek

    return await peek(controlled.broker, arguments)


async def act_on_messages(action: str, controlled: Controlled, arguments: Arguments) -> Mapping[str, Any]:
    """Move, copy, delete or replay messages of a queue; returns how many, and what stayed."""
    from amqp_broker.server.message_commands import act

    return await act(action, controlled.broker, arguments, controlled.who, controlled.tell)


async def close_connections(controlled: Controlled, arguments: Arguments) -> int:
    """Close the connections of a name; returns how many there were."""
    return controlled.administration.close_connections(_text(arguments, "name"), _text(arguments, "reason"))


# --- users


async def add_user(controlled: Controlled, arguments: Arguments) -> None:
    stored = await _password(arguments)
    controlled.administration.add_user(_text(arguments, "name"), stored, _texts(arguments, "tags"))


async def change_password(controlled: Controlled, arguments: Arguments) -> None:
    stored = await _password(arguments)
    controlled.administration.change_password(_text(arguments, "name"), stored)


async def set_tags(controlled: Controlled, arguments: Arguments) -> None:
    controlled.administration.set_tags(_text(arguments, "name"), _texts(arguments, "tags"))


async def limit_user(controlled: Controlled, arguments: Arguments) -> None:
    limits = _limits(arguments, "connections_max", "channels_max")
    controlled.administration.set_user_limits(_text(arguments, "name"), **limits)


async def delete_user(controlled: Controlled, arguments: Arguments) -> None:
    controlled.administration.delete_user(_text(arguments, "name"))


# --- virtual hosts


def _metadata(arguments: Arguments, before: Metadata) -> Metadata:
    """What is said of a virtual host: what was given, and else as it was."""
    default = arguments.get("default_queue_type", before.default_queue_type)
    return Metadata(
        _text(arguments, "description", before.description),
        _texts(arguments, "tags") if "tags" in arguments else before.tags,
        None if default is None else _text({"default_queue_type": default}, "default_queue_type"),
        before.is_protected,
    )


async def add_virtual_host(controlled: Controlled, arguments: Arguments) -> None:
    metadata = _metadata(arguments, Metadata())
    controlled.administration.add_virtual_host(_text(arguments, "name"), None if metadata == Metadata() else metadata)


async def protect_virtual_host(controlled: Controlled, arguments: Arguments) -> None:
    controlled.administration.set_protection(_text(arguments, "name"), is_on=arguments.get("on") is True)


async def describe_virtual_host(controlled: Controlled, arguments: Arguments) -> None:
    name = _text(arguments, "name")
    before = controlled.administration.virtual_host(name).metadata
    controlled.administration.set_metadata(name, _metadata(arguments, before))


async def trace_virtual_host(controlled: Controlled, arguments: Arguments) -> None:
    controlled.administration.set_tracing(_text(arguments, "name"), is_on=_flag(arguments, "on"))


async def limit_virtual_host(controlled: Controlled, arguments: Arguments) -> None:
    limits = _limits(arguments, "connections_max", "queues_max")
    controlled.administration.set_virtual_host_limits(_text(arguments, "name"), **limits)


async def delete_virtual_host(controlled: Controlled, arguments: Arguments) -> None:
    controlled.administration.delete_virtual_host(_text(arguments, "name"))


# --- permissions


async def set_permission(controlled: Controlled, arguments: Arguments) -> None:
    controlled.administration.set_permission(
        *(_text(arguments, name) for name in ("user", "vhost", "configure", "write", "read"))
    )


async def clear_permission(controlled: Controlled, arguments: Arguments) -> None:
    controlled.administration.clear_permission(_text(arguments, "user"), _text(arguments, "vhost"))


async def set_topic_permission(controlled: Controlled, arguments: Arguments) -> None:
    controlled.administration.set_topic_permission(
        *(_text(arguments, name) for name in ("user", "vhost", "exchange", "write", "read"))
    )


async def clear_topic_permission(controlled: Controlled, arguments: Arguments) -> None:
    exchange = None if arguments.get("exchange") is None else _text(arguments, "exchange")
    controlled.administration.clear_topic_permission(_text(arguments, "user"), _text(arguments, "vhost"), exchange)


# --- policies and parameters


def _object(arguments: Arguments, name: str) -> dict[str, Any]:
    value = arguments.get(name)
    if not isinstance(value, dict):
        raise BadRequest(f"{name} must be an object")
    return value


def _component(arguments: Arguments) -> str:
    return OPERATOR_POLICY if _flag(arguments, "operator") else POLICY


async def set_policy(controlled: Controlled, arguments: Arguments) -> None:
    vhost, name, value = _text(arguments, "vhost"), _text(arguments, "name"), _object(arguments, "value")
    component, parameters = _component(arguments), controlled.administration.parameters
    await until_done(controlled.broker.handle(lambda: parameters.set_policy(vhost, name, value, component)))


async def clear_policy(controlled: Controlled, arguments: Arguments) -> None:
    vhost, name = _text(arguments, "vhost"), _text(arguments, "name")
    component, parameters = _component(arguments), controlled.administration.parameters
    await until_done(controlled.broker.handle(lambda: parameters.clear_policy(vhost, name, component)))


async def set_parameter(controlled: Controlled, arguments: Arguments) -> None:
    name, value = _text(arguments, "name"), arguments.get("value")
    if "component" in arguments:
        component, virtual_host = _text(arguments, "component"), _text(arguments, "vhost")
        controlled.administration.parameters.set_parameter(virtual_host, component, name, value)
    else:
        controlled.administration.parameters.set_global_parameter(name, value)


async def clear_parameter(controlled: Controlled, arguments: Arguments) -> None:
    name = _text(arguments, "name")
    if "component" in arguments:
        component, virtual_host = _text(arguments, "component"), _text(arguments, "vhost")
        controlled.administration.parameters.clear_parameter(virtual_host, component, name)
    else:
        controlled.administration.parameters.clear_global_parameter(name)


def _parameters(controlled: Controlled, arguments: Arguments) -> Iterator[Mapping[str, Any]]:
    """Those of virtual hosts, and the global ones where none is named."""
    virtual_host = _virtual_host(arguments)
    yield from controlled.inspection.parameters(virtual_host)
    if virtual_host is None:
        for parameter in controlled.inspection.global_parameters():
            yield {"vhost": None, "component": None, **parameter}


# --- definitions


def export_definitions(controlled: Controlled, arguments: Arguments) -> Iterator[Mapping[str, Any]]:
    """What stands before the lists, and then one piece after the other, each with the name of its list."""
    from amqp_broker.broker.definitions.export import SECTIONS, SECTIONS_OF_VIRTUAL_HOST, header, pieces

    virtual_host = _virtual_host(arguments)
    sections = SECTIONS if virtual_host is None else SECTIONS_OF_VIRTUAL_HOST
    yield {"section": None, "item": {**header(controlled.broker), **{name: [] for name in sections}}}
    for section, one in pieces(controlled.broker, virtual_host):
        yield {"section": section, "item": one}


async def import_into(controlled: Controlled, arguments: Arguments) -> dict[str, int]:
    """Have definitions, or only check them; a client is told meanwhile that it goes on, and no more than that."""
    from amqp_broker.server.importing import check_in_turns, import_in_turns, no_turn
    from amqp_broker.server.message_commands import Teller

    document, virtual_host = arguments.get("definitions"), _virtual_host(arguments)
    turn = no_turn if controlled.tell is None else Teller(dict, controlled.tell).turn
    if arguments.get("dry_run") is True:
        await check_in_turns(controlled.broker, document, virtual_host, controlled.who, turn)
        return {}
    return await import_in_turns(controlled.broker, document, virtual_host, controlled.who, turn)


LISTS: dict[str, List] = {
    "queues.list": lambda controlled, arguments: controlled.inspection.queues(_virtual_host(arguments)),
    "exchanges.list": lambda controlled, arguments: controlled.inspection.exchanges(_virtual_host(arguments)),
    "bindings.list": lambda controlled, arguments: controlled.inspection.bindings(_virtual_host(arguments)),
    "consumers.list": lambda controlled, arguments: controlled.inspection.consumers(_virtual_host(arguments)),
    "connections.list": lambda controlled, arguments: controlled.inspection.connections(_virtual_host(arguments)),
    "users.list": lambda controlled, arguments: controlled.inspection.users(),
    "vhosts.list": lambda controlled, arguments: controlled.inspection.virtual_hosts(),
    "policies.list": lambda controlled, arguments: controlled.inspection.policies(
        _virtual_host(arguments), _component(arguments)
    ),
    "definitions.export": export_definitions,
    "parameters.list": _parameters,
    "permissions.list": lambda controlled, arguments: controlled.inspection.permissions(),
}

COMMANDS: dict[str, Command] = {
    "status": show_status,
    "queues.show": show_queue,
    "queues.purge": purge_queue,
    "queues.delete": delete_queue,
    "queues.peek": peek_queue,
    "streams.delete-super-stream": delete_super_stream,
    "queues.move": partial(act_on_messages, "move"),
    "queues.copy": partial(act_on_messages, "copy"),
    "queues.delete-messages": partial(act_on_messages, "delete"),
    "queues.replay": partial(act_on_messages, "replay"),
    "connections.close": close_connections,
    "users.add": add_user,
    "users.password": change_password,
    "users.tags": set_tags,
    "users.limits": limit_user,
    "users.delete": delete_user,
    "vhosts.add": add_virtual_host,
    "vhosts.describe": describe_virtual_host,
    "vhosts.protect": protect_virtual_host,
    "vhosts.trace": trace_virtual_host,
    "vhosts.limits": limit_virtual_host,
    "vhosts.delete": delete_virtual_host,
    "parameters.set": set_parameter,
    "parameters.clear": clear_parameter,
    "definitions.import": import_into,
    "policies.set": set_policy,
    "policies.clear": clear_policy,
    "permissions.set": set_permission,
    "permissions.clear": clear_permission,
    "permissions.set-topic": set_topic_permission,
    "permissions.clear-topic": clear_topic_permission,
}
