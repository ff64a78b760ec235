"""Definitions as RabbitMQ exports them, read and checked as a whole, in slices, before anything is changed.

Those of RabbitMQ 3.10, 3.13 and 4.x are taken; what this release makes nothing of is passed over. What is there already
stays as it is, if it is a queue, an exchange or a binding; all else is as the definitions say afterwards. As in
RabbitMQ, names that begin with ``amq.`` and bindings without both of their ends are left out.

What is to be done is done by ``applying.py``.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from amqp_broker.access.passwords import SHA256, PasswordHash, UnknownAlgorithm
from amqp_broker.access.patterns import BadPattern, Pattern
from amqp_broker.broker.administration import check_metadata
from amqp_broker.broker.arguments import DEFAULT_QUEUE_TYPE, QUEUE_TYPE
from amqp_broker.broker.erlang_text import erlang_json
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.limit_values import LIMITS_COMPONENT, USER_LIMITS, VIRTUAL_HOST_LIMITS, checked_limits
from amqp_broker.broker.names import PREDECLARED_EXCHANGES, RESERVED_PREFIX
from amqp_broker.broker.parameter_administration import EVENTS, check_parameter_name
from amqp_broker.broker.persistence.kinds import NOT_KEPT
from amqp_broker.broker.policies import OPERATOR_POLICY, POLICY
from amqp_broker.broker.policy_checks import checked_policy
from amqp_broker.broker.problems import AdministrationError, NotValid
from amqp_broker.broker.user_administration import check_name, check_tags, password_bytes
from amqp_broker.broker.virtual_host_properties import Metadata
from amqp_broker.errors import AmqpError
from amqp_broker.wire.table import Table, encode_table

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.queues.base import Queue

Object = dict[str, object]

NAME_BYTES_MAX: Final = 255
SLICE_READ = 50  # definitions, some 10 to 30 microseconds each


class NotImported(AdministrationError):
    """Definitions cannot be imported, and nothing of them was; the text names what is wrong, and where."""

    def __init__(self, text: str) -> None:
        super().__init__(text.encode("utf-8", "replace").decode())  # half a character could not be shown


@dataclass(slots=True)
class NewUser:
    """A user as they should be. None leaves what there is."""

    name: str
    password: PasswordHash | str | None
    tags: tuple[str, ...]
    limits: Object | None


@dataclass(slots=True)
class NewExchange:
    """An exchange that is not there yet."""

    name: str
    type_name: str
    durable: bool
    auto_delete: bool
    internal: bool
    table: Table
    reference: int = NOT_KEPT  # of its record, once there is one


@dataclass(slots=True)
class NewQueue:
    """A queue that is not there yet."""

    name: str
    durable: bool
    auto_delete: bool
    table: Table
    reference: int = NOT_KEPT


@dataclass(slots=True)
class NewBinding:
    """A binding whose ends are there, or will be; it may be there itself."""

    source: str
    kind: str
    destination: str
    routing_key: str
    table: Table
    durable: bool  # as both of its ends are
    reference: int = NOT_KEPT


@dataclass(slots=True)
class HostPlan:
    """The plan for one virtual host."""

    exchanges: dict[str, NewExchange] = field(default_factory=dict)
    queues: dict[str, NewQueue] = field(default_factory=dict)
    bindings: list[NewBinding] = field(default_factory=list)
    policies: list[tuple[str, str, Object]] = field(default_factory=list)  # component, name, value
    parameters: list[tuple[str, str, object]] = field(default_factory=list)  # component, name, value


@dataclass(slots=True)
class Plan:
    """The plan of an import: all of it can be done."""

    users: list[NewUser] = field(default_factory=list)
    virtual_hosts: dict[str, Metadata | None] = field(default_factory=dict)
    permissions: list[tuple[str, str, tuple[str, str, str]]] = field(default_factory=list)
    topic_permissions: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    global_parameters: list[tuple[str, object]] = field(default_factory=list)
    hosts: dict[str, HostPlan] = field(default_factory=dict)
    left_out_count: int = 0


class Reader:
    """Reads definitions and checks them against what there is.

    Args:
        document: the object of JSON.
        virtual_host: into which all of it goes, whatever it says; None for what was exported as a whole.

    Raises:
        NotImported: it is no object.
        NotThere: there is no virtual host of that name.
    """

    def __init__(self, broker: Broker, document: object, virtual_host: str | None) -> None:
        if not isinstance(document, dict):
            raise NotImported("definitions are an object of JSON, as RabbitMQ exports them")
        self.plan = Plan()
        self._broker = broker
        self._document: Object = document
        self._into = virtual_host
        self._user_names: set[str] = set()  # of the definitions
        self._exchanges: dict[tuple[str, str], Exchange] = {}  # as they will be, by virtual host and name
        if virtual_host is not None:
            broker.administration.virtual_host(virtual_host)

    def steps(self) -> Iterator[None]:
        """Make the plan, a slice of it a step.

        Raises:
            NotImported: it cannot be done.
        """
        if self._into is None:
            yield from self._read_whole()
        yield from self._each("parameters", "parameter", self._read_parameter)
        yield from self._each("policies", "policy", self._read_policy)
        yield from self._each("exchanges", "exchange", self._read_exchange)
        yield from self._each("queues", "queue", self._read_queue)
        yield from self._each("bindings", "binding", self._read_binding)
        self.check_queue_count()

    def _each(self, section: str, kind: str, read: Callable[[str, Object], None]) -> Iterator[None]:
        """Read what stands in a list, one after the other."""
        found = self._document.get(section, [])
        if not isinstance(found, list):
            raise NotImported(f"'{section}' should be a list, and is {erlang_json(found)[:100]}")
        for number, one in enumerate(found):
            if number % SLICE_READ == 0:
                yield
            self._read_one(f"{section}[{number}]", kind, one, read)

    @staticmethod
    def _read_one(place: str, kind: str, one: object, read: Callable[[str, Object], None]) -> None:
        """What is wrong with it is told with its name."""
        if not isinstance(one, dict):
            raise NotImported(f"{place} should be an object, and is {erlang_json(one)[:100]}")
        names = [str(one[key]) for key in ("name", "user", "source") if key in one]
        what = f"{kind} '{names[0]}'" if names else place
        try:
            read(what, one)
        except NotImported:
            raise
        except AmqpError as error:
            raise NotImported(f"{what}: {error.explanation}") from error
        except NotValid as error:
            raise NotImported(f"{what}: {'; '.join(error.problems)}") from error
        except AdministrationError as error:
            raise NotImported(f"{what}: {error}") from error
        except UnicodeEncodeError:
            raise NotImported(f"{what}: it holds half of a character, which cannot be kept") from None

    # --- users and virtual hosts

    def _read_whole(self) -> Iterator[None]:
        yield from self._each("users", "user", self._read_user)
        yield from self._each("vhosts", "virtual host", self._read_virtual_host)
        yield from self._each("permissions", "permission of user", self._read_permission)
        yield from self._each("topic_permissions", "topic permission of user", self._read_topic_permission)
        yield from self._each("global_parameters", "global parameter", self._read_global_parameter)

    def _read_user(self, what: str, one: Object) -> None:
        name = _name(what, one)
        _wanted(what, one, "tags")  # as in RabbitMQ, so that who has forgotten them does not take somebody's away
        tags = _tags(what, one)
        check_name("user", name)
        check_tags(tags)
        limits = one.get("limits")
        if limits is not None and limits != []:  # Erlang's empty object, now and then
            checked_limits(limits, USER_LIMITS, "user-limits")
        else:
            limits = None
        self._user_names.add(name)
        self.plan.users.append(NewUser(name, _password(what, one), tags, limits))  # type: ignore[arg-type]

    def _read_virtual_host(self, what: str, one: Object) -> None:
        name = _name(what, one)
        check_name("virtual host", name)
        said = one.get("metadata")
        found: Object = {**said, **one} if isinstance(said, dict) else one
        metadata = None
        is_protected = found.get("protected_from_deletion") is True
        said_of_it = (found.get(key) for key in ("description", "tags", "default_queue_type"))
        if is_protected or any(value not in (None, "undefined") for value in said_of_it):
            default = found.get("default_queue_type")
            metadata = Metadata(
                _text(what, found, "description", ""),
                _tags(what, found),
                None if default in (None, "undefined") else _text(what, found, "default_queue_type"),
                is_protected,
            )
            check_metadata(metadata, self._broker.queue_types.names)
        self.plan.virtual_hosts[name] = metadata

    def _read_permission(self, what: str, one: Object) -> None:
        patterns = tuple(_text(what, one, key) for key in ("configure", "write", "read"))
        for pattern in patterns:
            _check_pattern(what, pattern)
        self.plan.permissions.append((self._user(what, one), self._host(what, one), patterns))  # type: ignore[arg-type]

    def _read_topic_permission(self, what: str, one: Object) -> None:
        exchange, write, read = (_text(what, one, key) for key in ("exchange", "write", "read"))
        for pattern in (write, read):
            _check_pattern(what, pattern.replace("{username}", "").replace("{vhost}", ""))
        _check_length(what, exchange)
        self.plan.topic_permissions.append((self._user(what, one), self._host(what, one), exchange, write, read))

    def _read_global_parameter(self, what: str, one: Object) -> None:
        name = _name(what, one)
        check_parameter_name("parameter", name)
        self.plan.global_parameters.append((name, _wanted(what, one, "value")))

    def _user(self, what: str, one: Object) -> str:
        name = _text(what, one, "user")
        if self._broker.users.get(name) is None and name not in self._user_names:
            raise NotImported(f"{what}: there is no user '{name}', neither in the broker nor in the definitions")
        return name

    def _host(self, what: str, one: Object) -> str:
        name = self._into if self._into is not None else _text(what, one, "vhost")
        if name not in self._broker.virtual_hosts and name not in self.plan.virtual_hosts:
            there = "neither in the broker nor in the definitions"
            raise NotImported(f"{what}: there is no virtual host '{name}', {there}")
        return name

    def _host_plan(self, what: str, one: Object) -> tuple[str, HostPlan]:
        name = self._host(what, one)
        return name, self.plan.hosts.setdefault(name, HostPlan())

    # --- policies and parameters

    def _read_parameter(self, what: str, one: Object) -> None:
        component, name, value = _text(what, one, "component"), _name(what, one), _object(_wanted(what, one, "value"))
        if component in (POLICY, OPERATOR_POLICY):
            if not isinstance(value, dict):
                raise NotImported(f"{what}: its value should be an object")
            self._read_policy_of(component, what, {**one, **value})
            return
        if component == LIMITS_COMPONENT:
            checked_limits(value, VIRTUAL_HOST_LIMITS, "limits")
        else:
            check_parameter_name("parameter", name)
            self._broker.components.check(component, name, value)
        self._host_plan(what, one)[1].parameters.append((component, name, value))

    def _read_policy(self, what: str, one: Object) -> None:
        self._read_policy_of(POLICY, what, one)

    def _read_policy_of(self, component: str, what: str, one: Object) -> None:
        name, value = _name(what, one), {key: one[key] for key in POLICY_KEYS if key in one}
        value["definition"] = _object(value.get("definition"))
        check_parameter_name(EVENTS[component], name)
        checked_policy(component, name, value, self._broker.queue_types.apply_to)
        self._host_plan(what, one)[1].policies.append((component, name, value))

    # --- exchanges, queues and bindings

    def _read_exchange(self, what: str, one: Object) -> None:
        name, type_name, table = _name(what, one), _text(what, one, "type"), _table(what, one)
        host_name, plan = self._host_plan(what, one)
        if not name or name.startswith(RESERVED_PREFIX):
            self.plan.left_out_count += 1
            return
        if type_name not in self._broker.exchange_types:
            raise NotImported(f"{what} in virtual host '{host_name}': there is no exchange type '{type_name}' here")
        self._broker.exchange_types[type_name](table)
        host = self._broker.virtual_hosts.get(host_name)
        if host is None or name not in host.exchanges:
            durable, auto_delete, internal = (_flag(what, one, key) for key in ("durable", "auto_delete", "internal"))
            plan.exchanges[name] = NewExchange(name, type_name, durable, auto_delete, internal, table)

    def _read_queue(self, what: str, one: Object) -> None:
        name, table = _name(what, one), _table(what, one)
        host_name, plan = self._host_plan(what, one)
        if not name or name.startswith(RESERVED_PREFIX):
            self.plan.left_out_count += 1
            return
        if one.get("type", DEFAULT_QUEUE_TYPE) != DEFAULT_QUEUE_TYPE and QUEUE_TYPE not in table:
            table[QUEUE_TYPE] = _text(what, one, "type")
        types = self._broker.queue_types
        queue_type = types.read(f"queue '{name}' in vhost '{host_name}'", table, self._broker.behaviour).queue_type
        durable, auto_delete = _flag(what, one, "durable"), _flag(what, one, "auto_delete")
        if types[queue_type].traits().always_lasts and (auto_delete or not durable):
            kind = f"a queue of type {queue_type}"
            raise NotImported(f"{what} in virtual host '{host_name}': {kind} is durable, and not auto-delete")
        host = self._broker.virtual_hosts.get(host_name)
        if host is None or name not in host.queues:
            plan.queues[name] = NewQueue(name, durable, auto_delete, table)

    def _read_binding(self, what: str, one: Object) -> None:
        source, destination = _text(what, one, "source"), _text(what, one, "destination")
        kind, key, table = _text(what, one, "destination_type"), _text(what, one, "routing_key"), _table(what, one)
        if kind not in ("queue", "exchange"):
            raise NotImported(f"{what}: destination_type is queue or exchange, not {kind}")
        _check_length(what, key)
        host_name, plan = self._host_plan(what, one)
        exchange = self._exchange(host_name, source)
        end = self._end(host_name, kind, destination)
        if not source or exchange is None or end is None:
            self.plan.left_out_count += 1
            return
        exchange.matcher.check(Binding(exchange, exchange, key, table))
        is_durable = exchange.durable and end.durable
        plan.bindings.append(NewBinding(source, kind, destination, key, table, is_durable))

    def _exchange(self, host_name: str, name: str) -> Exchange | None:
        """The exchange that is there, or one as it will be."""
        new = self.plan.hosts[host_name].exchanges.get(name)
        if new is None:
            host = self._broker.virtual_hosts.get(host_name)
            if host is not None:
                return host.exchanges.get(name)
            new = _predeclared(name)
        if new is None:
            return None
        exchange = self._exchanges.get((host_name, name))
        if exchange is None:
            matcher = self._broker.exchange_types[new.type_name](new.table)
            exchange = Exchange(name, new.type_name, matcher, durable=new.durable, table=new.table)
            self._exchanges[host_name, name] = exchange
        return exchange

    def _end(self, host_name: str, kind: str, name: str) -> Exchange | Queue | NewQueue | None:
        """What a binding leads to, as it is or will be."""
        if kind == "exchange":
            return self._exchange(host_name, name)
        host = self._broker.virtual_hosts.get(host_name)
        return self.plan.hosts[host_name].queues.get(name) or (None if host is None else host.queues.get(name))

    def check_queue_count(self) -> None:
        """Refuse more queues than there may be.

        Raises:
            NotImported: there would be.
        """
        limit = self._broker.settings.queues_max
        count = self._broker.queue_count() + sum(len(plan.queues) for plan in self.plan.hosts.values())
        if limit and count > limit:
            raise NotImported(f"there would be {count} queues: queue limit in cluster ({limit}) is reached")


POLICY_KEYS: tuple[str, ...] = ("pattern", "definition", "priority", "apply-to")


def _predeclared(name: str) -> NewExchange | None:
    type_name = PREDECLARED_EXCHANGES.get(name)
    return None if type_name is None else NewExchange(name, type_name, True, False, False, {})


# --- values


def _wanted(what: str, one: Object, key: str) -> object:
    if key not in one:
        raise NotImported(f"{what}: '{key}' is missing")
    return one[key]


def _object(value: object) -> object:
    """An object that ``rabbitmqctl export_definitions`` has written as a list of pairs; all else as it is."""
    if not isinstance(value, list) or not value:
        return value
    found: Object = {}
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            return value
        found[pair[0]] = pair[1]
    return found


def _text(what: str, one: Object, key: str, default: str | None = None) -> str:
    value = _wanted(what, one, key) if default is None else one.get(key, default)
    if not isinstance(value, str):
        raise NotImported(f"{what}: '{key}' should be text, and is {erlang_json(value)[:100]}")
    if not value.isascii():
        value.encode("utf-8", "surrogateescape")  # raises where there is half of a character
    return value


def _name(what: str, one: Object) -> str:
    name = _text(what, one, "name")
    _check_length(what, name)
    return name


def _check_length(what: str, text: str) -> None:
    if len(text.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
        raise NotImported(f"{what[:100]}: a name or a routing key has at most {NAME_BYTES_MAX} bytes")


def _flag(what: str, one: Object, key: str) -> bool:
    value = one.get(key, False)
    if not isinstance(value, bool):
        raise NotImported(f"{what}: '{key}' should be true or false, and is {erlang_json(value)[:100]}")
    return value


def _tags(what: str, one: Object) -> tuple[str, ...]:
    """A list, or the text with commas that older releases wrote."""
    value = one.get("tags", [])
    if isinstance(value, str):
        return tuple(tag.strip() for tag in value.split(",") if tag.strip())
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise NotImported(f"{what}: 'tags' should be a list of texts, and is {erlang_json(value)[:100]}")
    return tuple(value)


def _password(what: str, one: Object) -> PasswordHash | str | None:
    if "password_hash" in one:
        try:
            value = _from_base64(what, _text(what, one, "password_hash"))
            return PasswordHash(_text(what, one, "hashing_algorithm", SHA256), value)
        except UnknownAlgorithm as error:
            raise NotImported(f"{what}: its password_hash cannot be used: {error}") from error
    if "password" not in one:
        return None
    password = _text(what, one, "password")
    password_bytes(password)
    return password


def _from_base64(what: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise NotImported(f"{what}: its password_hash cannot be used: it is not base64") from None


def _check_pattern(what: str, source: str) -> None:
    try:
        Pattern(source)
    except BadPattern as error:
        raise NotImported(f"{what}: the pattern '{source}' cannot be used: {error}") from error


def _table(what: str, one: Object) -> Table:
    """Arguments, as clients would have sent them."""
    value = one.get("arguments", {})
    if value == []:  # Erlang's empty object, now and then
        return {}
    if not isinstance(value, dict):
        raise NotImported(f"{what}: 'arguments' should be an object, and is {erlang_json(value)[:100]}")
    table: Table = dict(value)
    try:
        encode_table(table)
    except (AmqpError, ValueError, TypeError, LookupError, OverflowError, struct.error, RecursionError) as error:
        raise NotImported(f"{what}: its arguments cannot be had: {error}") from error
    return table
