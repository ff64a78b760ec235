"""Who may do what: every check of permissions, with its text; limits of users and virtual hosts; what is deleted.

Users and virtual hosts are changed as an administrator does it: with rabbitmqctl there, with our command line here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from interop.brokers import Choice, OurBroker, RabbitMQ
from interop.raw_client import NO_CAUSE, Basic, Channel, ChannelUnderTest, Client, Connection, Exchange, Queue
from interop.under_test import BrokerUnderTest
from interop.waiting import until

VHOST = "access-test"
PATTERNS = ("^mine", "^(mine|shared|amq\\.default$|amq\\.topic$)", "^(mine|shared|amq\\.topic$)")


class Administrator:
    """Changes users and virtual hosts on either broker."""

    def __init__(self, process: RabbitMQ | OurBroker) -> None:
        self._process = process

    def _run(self, theirs: list[str], ours: list[str], standard_input: str = "") -> None:
        if isinstance(self._process, RabbitMQ):
            self._process.ctl(*theirs)
        else:
            self._process.ctl(*ours, standard_input=standard_input)

    def add_user(self, name: str, password: str, tag: str = "") -> None:
        self._run(
            ["add_user", name, password],
            ["users", "add", name, "--password-stdin", *(["--tag", tag] if tag else [])],
            password + "\n",
        )
        if tag and isinstance(self._process, RabbitMQ):
            self._process.ctl("set_user_tags", name, tag)

    def delete_user(self, name: str) -> None:
        self._run(["delete_user", name], ["users", "delete", name])

    def add_vhost(self, name: str) -> None:
        self._run(["add_vhost", name], ["vhosts", "add", name])

    def delete_vhost(self, name: str) -> None:
        self._run(["delete_vhost", name], ["vhosts", "delete", name])

    def permit(self, user: str, configure: str, write: str, read: str, vhost: str = VHOST) -> None:
        patterns = [configure, write, read]
        self._run(
            ["set_permissions", "-p", vhost, user, *patterns],
            ["permissions", "set", user, *patterns, "--vhost", vhost],
        )

    def forbid(self, user: str, vhost: str = VHOST) -> None:
        self._run(["clear_permissions", "-p", vhost, user], ["permissions", "clear", user, "--vhost", vhost])

    def permit_topic(self, user: str, exchange: str, write: str, read: str) -> None:
        self._run(
            ["set_topic_permissions", "-p", VHOST, user, exchange, write, read],
            ["permissions", "set-topic", user, exchange, write, read, "--vhost", VHOST],
        )

    def clear_topic(self, user: str) -> None:
        self._run(
            ["clear_topic_permissions", "-p", VHOST, user],
            ["permissions", "clear-topic", user, "--vhost", VHOST],
        )

    def limit_user(self, name: str, what: str, limit: int) -> None:
        self._run(
            ["set_user_limits", name, json.dumps({f"max-{what}": limit})],
            ["users", "limits", name, f"--{what}", str(limit)],
        )

    def limit_vhost(self, name: str, what: str, limit: int) -> None:
        self._run(
            ["set_vhost_limits", "-p", name, json.dumps({f"max-{what}": limit})],
            ["vhosts", "limits", name, f"--{what}", str(limit)],
        )

    def await_counted(self, what: str, whose: str, name: str, count: int) -> None:
        """Return when so many connections or channels are counted against the limits of a user or a virtual host.

        RabbitMQ counts each in a process of its own, some time after it was opened or closed.
        """
        process = self._process
        if isinstance(process, RabbitMQ):
            question = f'rabbit_{what}_tracking:count_tracked_items_in({{{whose}, <<"{name}">>}}).'
            until(lambda: process.ctl("eval", question).strip() == str(count))


class AccessUnderTest:
    """A broker with a virtual host in which ada may do what PATTERNS says."""

    def __init__(self, broker: BrokerUnderTest, administrator: Administrator) -> None:
        self.broker = broker
        self.administrator = administrator
        self.names: set[str] = set()

    def connect(self, user: str = "ada", vhost: str = VHOST) -> Client:
        return self.broker.connect(user=user, password="secret", vhost=vhost)

    def channel(self, user: str = "ada") -> ChannelUnderTest:
        return self.connect(user).channel()

    def refusal(self, where: str, user: str) -> re.Pattern[str]:
        """The text of a refusal; from 3.12 on it names the permission."""
        permission = "(configure|write|read) " if self.broker.version >= (3, 12) else ""
        return re.compile(permission + f"access to {where} refused for user '{user}'")

    def refused(self, kind: str, name: str, user: str = "ada") -> re.Pattern[str]:
        return self.refusal(f"{kind} '{name}' in vhost '{VHOST}'", user)

    def to_open(self, user: str, vhost: str = VHOST) -> Client:
        """A connection that has sent connection.open."""
        client = self.broker.socket()
        client.begin()
        client.send_start_ok(user=user, password="secret")
        client.expect_tune()
        client.send_tune_ok()
        client.send(Connection.Open, virtual_host=vhost)
        return client

    def add(self, user: str, tag: str = "") -> None:
        """A user of this test's own who may do everything, gone when it is over."""
        self.names.add(user)
        self.administrator.add_user(user, "secret", tag)
        self.administrator.permit(user, ".*", ".*", ".*")


@pytest.fixture(scope="session")
def administrators(broker_processes: Any) -> Iterator[dict[Choice, Administrator]]:
    """The administrator of each broker that was asked so far; what it made is deleted at the end."""
    administrators: dict[Choice, Administrator] = {}
    yield administrators
    for administrator in administrators.values():
        administrator.delete_user("ada")
        administrator.delete_user("boss")
        administrator.delete_vhost(VHOST)


@pytest.fixture
def access(broker: BrokerUnderTest, administrators: dict[Choice, Administrator]) -> Iterator[AccessUnderTest]:
    process = broker.process
    if not isinstance(process, RabbitMQ | OurBroker):
        pytest.skip("users can be changed only where the tests have started the broker")
    if broker.choice not in administrators:
        administrator = administrators[broker.choice] = Administrator(process)
        administrator.add_vhost(VHOST)
        administrator.add_user("ada", "secret")
        administrator.permit("ada", *PATTERNS)
        administrator.add_user("boss", "secret", "administrator")
        administrator.permit("boss", ".*", ".*", ".*")
        boss = broker.connect(user="boss", password="secret", vhost=VHOST).channel()
        for name in ("mine", "shared", "other"):
            boss.call(Queue.Declare, queue=name)
            boss.call(Exchange.Declare, exchange=name, exchange_type="direct")
        boss.call(Exchange.Declare, exchange="mine.topic", exchange_type="topic")
    under_test = AccessUnderTest(broker, administrators[broker.choice])
    yield under_test
    for name in under_test.names:
        under_test.administrator.delete_user(name)


# connection.open


def test_virtual_host_without_permission(access: AccessUnderTest) -> None:
    client = access.to_open("ada", "/")
    client.expect_connection_close(530, "access to vhost '/' refused for user 'ada'", cause=Connection.Open)


def test_virtual_host_that_does_not_exist(access: AccessUnderTest) -> None:
    access.to_open("ada", "nowhere").expect_connection_close(530, "vhost nowhere not found", cause=Connection.Open)


def test_empty_password_is_refused(access: AccessUnderTest) -> None:
    client = access.broker.socket()
    client.begin()
    client.send_start_ok(user="ada", password="")
    text = "Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
    client.expect_connection_close(403, text, cause=NO_CAUSE, then="stay")


# Operations, each with the first thing that it is refused for

CHECKS: list[tuple[str, Any, dict[str, Any], str, str]] = [
    ("declare queue", Queue.Declare, {"queue": "other"}, "queue", "other"),
    ("declare new queue", Queue.Declare, {"queue": "new"}, "queue", "new"),
    ("delete queue", Queue.Delete, {"queue": "other"}, "queue", "other"),
    ("delete queue that is not there", Queue.Delete, {"queue": "absent"}, "queue", "absent"),
    ("purge", Queue.Purge, {"queue": "other"}, "queue", "other"),
    ("get", Basic.Get, {"queue": "other"}, "queue", "other"),
    ("get from a queue that is not there", Basic.Get, {"queue": "absent"}, "queue", "absent"),
    ("consume", Basic.Consume, {"queue": "other"}, "queue", "other"),
    ("declare exchange", Exchange.Declare, {"exchange": "other", "exchange_type": "direct"}, "exchange", "other"),
    ("delete exchange", Exchange.Delete, {"exchange": "other"}, "exchange", "other"),
    (
        "dead-letter exchange without write",
        Queue.Declare,
        {"queue": "mine.dlx", "arguments": {"x-dead-letter-exchange": "other"}},
        "exchange",
        "other",
    ),
    (
        "alternate exchange without write",
        Exchange.Declare,
        {"exchange": "mine.ae", "exchange_type": "direct", "arguments": {"alternate-exchange": "other"}},
        "exchange",
        "other",
    ),
    ("bind to what may not be written", Queue.Bind, {"queue": "other", "exchange": "mine"}, "queue", "other"),
    ("bind from what may not be read", Queue.Bind, {"queue": "mine", "exchange": "other"}, "exchange", "other"),
    ("bind neither", Queue.Bind, {"queue": "other", "exchange": "other"}, "queue", "other"),
    ("bind what is not there", Queue.Bind, {"queue": "mine", "exchange": "absent"}, "exchange", "absent"),
    ("unbind", Queue.Unbind, {"queue": "other", "exchange": "mine"}, "queue", "other"),
    ("exchange bind", Exchange.Bind, {"destination": "other", "source": "mine"}, "exchange", "other"),
    ("exchange bind from", Exchange.Bind, {"destination": "mine", "source": "other"}, "exchange", "other"),
    ("exchange unbind", Exchange.Unbind, {"destination": "mine", "source": "other"}, "exchange", "other"),
]


@pytest.mark.parametrize(
    ("method", "fields", "kind", "name"), [each[1:] for each in CHECKS], ids=[each[0] for each in CHECKS]
)
def test_refused(access: AccessUnderTest, method: Any, fields: dict[str, Any], kind: str, name: str) -> None:
    ch = access.channel()
    ch.send(method, **fields)
    ch.expect_close(403, access.refused(kind, name), cause=method)


def test_refused_to_publish(access: AccessUnderTest) -> None:
    ch = access.channel()
    ch.publish("other", "key", b"")
    ch.expect_close(403, access.refused("exchange", "other"), cause=Basic.Publish)


def test_default_exchange_has_a_name_of_its_own(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit("eve", "", "^mine", "")
    ch = access.channel("eve")
    ch.publish("", "mine", b"")
    ch.expect_close(403, access.refused("exchange", "amq.default", "eve"), cause=Basic.Publish)


def test_empty_pattern_matches_no_name(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit("eve", "", "", "")
    ch = access.channel("eve")
    ch.send(Queue.Declare, queue="")
    ch.expect_close(403, access.refused("queue", r"amq\.gen-.*", "eve"))


def test_dead_letter_exchange_without_read(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit("eve", ".*", ".*", "")
    ch = access.channel("eve")
    ch.send(Queue.Declare, queue="mine.eve", arguments={"x-dead-letter-exchange": "mine"})
    ch.expect_close(403, access.refused("queue", "mine.eve", "eve"), cause=Queue.Declare)


def test_alternate_exchange_without_read(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit("eve", ".*", ".*", "")
    ch = access.channel("eve")
    ch.send(Exchange.Declare, exchange="mine.eve", exchange_type="fanout", arguments={"alternate-exchange": "mine"})
    ch.expect_close(403, access.refused("exchange", "mine.eve", "eve"), cause=Exchange.Declare)


def test_passive_declarations_need_no_permission(access: AccessUnderTest) -> None:
    ch = access.channel()
    ch.call(Queue.Declare, queue="other", passive=True)
    ch.call(Exchange.Declare, exchange="other", exchange_type="direct", passive=True)


def test_passive_declarations_of_what_is_not_there_need_no_permission(access: AccessUnderTest) -> None:
    client = access.connect()
    for method, fields in (
        (Queue.Declare, {"queue": "absent", "passive": True}),
        (Exchange.Declare, {"exchange": "absent", "exchange_type": "direct", "passive": True}),
    ):
        ch = client.channel()
        ch.send(method, **fields)
        ch.expect_close(404, re.compile(f"no (queue|exchange) 'absent' in vhost '{VHOST}'"), cause=method)


def test_what_is_there_may_be_declared_again_without_write_on_where_it_leads(access: AccessUnderTest) -> None:
    boss, ada = access.channel("boss"), access.channel()
    queue = {"queue": "mine.again", "arguments": {"x-dead-letter-exchange": "other"}}
    exchange = {
        "exchange": "mine.again",
        "exchange_type": "direct",
        "arguments": {"alternate-exchange": "other"},
    }
    try:
        boss.call(Queue.Declare, **queue)
        boss.call(Exchange.Declare, **exchange)
        ada.call(Queue.Declare, **queue)
        ada.call(Exchange.Declare, **exchange)
    finally:
        boss.call(Queue.Delete, queue="mine.again")
        boss.call(Exchange.Delete, exchange="mine.again")


def test_permission_is_asked_for_before_anything_else(access: AccessUnderTest) -> None:
    client = access.connect()
    for method, fields, kind in (
        (Queue.Declare, {"queue": "other", "durable": True, "exclusive": True}, "queue"),
        (Queue.Delete, {"queue": "other", "if_empty": True, "if_unused": True}, "queue"),
        (Exchange.Declare, {"exchange": "other", "exchange_type": "fanout"}, "exchange"),
        (Exchange.Delete, {"exchange": "other", "if_unused": True}, "exchange"),
        (Basic.Consume, {"queue": "other", "exclusive": True}, "queue"),
    ):
        ch = client.channel()
        ch.send(method, **fields)
        ch.expect_close(403, access.refused(kind, "other"), cause=method)


def test_an_exchange_that_is_not_there_is_missed_after_the_permission(access: AccessUnderTest) -> None:
    client = access.connect()
    ch = client.channel()
    ch.publish("absent", "key", b"")
    ch.expect_close(403, access.refused("exchange", "absent"), cause=Basic.Publish)
    ch = client.channel()
    ch.publish("mine.absent", "key", b"")
    ch.expect_close(404, f"no exchange 'mine.absent' in vhost '{VHOST}'", cause=Basic.Publish)


def test_the_last_declared_queue_is_checked_by_its_name(access: AccessUnderTest) -> None:
    ch = access.channel()
    ch.call(Queue.Declare, queue="other", passive=True)
    ch.send(Queue.Purge, queue="")
    ch.expect_close(403, access.refused("queue", "other"), cause=Queue.Purge)


def test_direct_replies_need_no_permission_to_read(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit("eve", "", "^amq\\.default$", "")
    ch = access.channel("eve")
    ch.call(Basic.Consume, queue="amq.rabbitmq.reply-to", no_ack=True)
    ch.publish("", "nowhere", b"", reply_to="amq.rabbitmq.reply-to")
    ch.sync()


def test_patterns_match_anywhere_and_mind_the_case(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit("eve", "mid", "", "")
    ch = access.channel("eve")
    ch.call(Queue.Declare, queue="a-mid-b")
    ch.call(Queue.Delete, queue="a-mid-b")
    ch.send(Queue.Declare, queue="A-MID-B")
    ch.expect_close(403, access.refused("queue", "A-MID-B", "eve"), cause=Queue.Declare)


def test_what_is_allowed(access: AccessUnderTest) -> None:
    ch = access.channel()
    ch.call(Queue.Declare, queue="mine")
    ch.call(Queue.Bind, queue="shared", exchange="mine", routing_key="k")
    ch.publish("", "shared", b"a message")
    assert ch.get_one("shared").body == b"a message"
    ch.call(Queue.Unbind, queue="shared", exchange="mine", routing_key="k")


def test_patterns_look_ahead(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit("eve", "^(?!mine)", "", "")
    ch = access.channel("eve")
    ch.call(Queue.Declare, queue="eve.q")
    ch.call(Queue.Delete, queue="eve.q")
    ch.send(Queue.Declare, queue="mine")
    ch.expect_close(403, access.refused("queue", "mine", "eve"))


# Topics


def test_topic_permission_on_publish(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit_topic("eve", "mine.topic", "^{username}\\.", ".*")
    ch = access.channel("eve")
    ch.publish("mine.topic", "eve.1", b"")
    ch.publish("mine.topic", "bob.1", b"")
    where = f"topic 'bob.1' in exchange 'mine.topic' in vhost '{VHOST}'"
    ch.expect_close(403, access.refusal(where, "eve"), cause=Basic.Publish)


def test_topic_permission_on_bind_and_unbind(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit_topic("eve", "mine.topic", ".*", "^{vhost}\\.")
    client = access.connect("eve")
    ch = client.channel()
    ch.call(Queue.Bind, queue="mine", exchange="mine.topic", routing_key=f"{VHOST}.#")
    ch.call(Queue.Unbind, queue="mine", exchange="mine.topic", routing_key=f"{VHOST}.#")
    for method in (Queue.Bind, Queue.Unbind):
        ch = client.channel()
        ch.send(method, queue="mine", exchange="mine.topic", routing_key="#")
        where = f"topic '#' in exchange 'mine.topic' in vhost '{VHOST}'"
        ch.expect_close(403, access.refusal(where, "eve"), cause=method)


def test_topic_permission_on_a_binding_between_exchanges(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit_topic("eve", "mine.topic", "^no$", "^yes\\.")
    client = access.connect("eve")
    ch = client.channel()
    ch.call(Exchange.Bind, destination="mine", source="mine.topic", routing_key="yes.1")
    ch.call(Exchange.Unbind, destination="mine", source="mine.topic", routing_key="yes.1")
    for method in (Exchange.Bind, Exchange.Unbind):
        ch = client.channel()
        ch.send(method, destination="mine", source="mine.topic", routing_key="no.1")
        where = f"topic 'no.1' in exchange 'mine.topic' in vhost '{VHOST}'"
        ch.expect_close(403, access.refusal(where, "eve"), cause=method)


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_topic_permission_on_further_keys_from_4_on(access: AccessUnderTest, header: str) -> None:
    access.add("eve")
    access.administrator.permit_topic("eve", "mine.topic", "^yes\\.", ".*")
    ch = access.channel("eve")
    ch.publish("mine.topic", "yes.1", b"", headers={header: ["yes.2"]})
    ch.publish("mine.topic", "yes.1", b"", headers={header: ["yes.2", "no.1", "no.2"]})
    if access.broker.version < (4, 0):
        ch.sync()
    else:
        where = f"topic 'no.1' in exchange 'mine.topic' in vhost '{VHOST}'"
        ch.expect_close(403, access.refusal(where, "eve"), cause=Basic.Publish)


def test_topic_permission_does_not_concern_other_exchanges(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit_topic("eve", "mine.topic", "^no$", "^no$")
    access.administrator.permit_topic("eve", "mine", "^no$", "^no$")
    ch = access.channel("eve")
    ch.publish("amq.topic", "any", b"")
    ch.publish("mine", "any", b"")
    ch.sync()


def test_topic_permission_cleared(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.permit_topic("eve", "mine.topic", "^no$", "^no$")
    access.administrator.clear_topic("eve")
    ch = access.channel("eve")
    ch.publish("mine.topic", "any", b"")
    ch.sync()


# Tags


def test_user_id_of_somebody_else_needs_the_tag_impersonator(access: AccessUnderTest) -> None:
    access.add("mallory", "impersonator")
    ch = access.channel("mallory")
    ch.publish("", "nowhere", b"", user_id="ada")
    ch.sync()
    ch = access.channel("boss")
    ch.publish("", "nowhere", b"", user_id="ada")
    ch.expect_close(406, "user_id property set to 'ada' but authenticated user was 'boss'", cause=Basic.Publish)


# Limits


def test_connection_limit_of_a_user(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.limit_user("eve", "connections", 0)
    text = "connection refused for user 'eve': user connection limit (0) is reached"
    access.to_open("eve").expect_connection_close(530, text, cause=Connection.Open)


def channel_limit_reached(access: AccessUnderTest, limit: int, user: str = "eve") -> re.Pattern[str]:
    who = user if access.broker.differs("texts-of-4") else ".*"
    return re.compile(
        f"number of channels opened for user '{who}' has reached the maximum allowed user limit of \\({limit}\\)"
    )


def test_channel_limit_of_a_user(access: AccessUnderTest) -> None:
    access.add("eve")
    access.administrator.limit_user("eve", "channels", 0)
    client = access.connect("eve")
    client.channel(1, opened=False).send(Channel.Open)
    text = channel_limit_reached(access, 0)
    client.expect_connection_close(530, text, cause=NO_CAUSE)


def test_limits_of_a_user_count_what_is_open(access: AccessUnderTest) -> None:
    access.add("counted")
    access.administrator.limit_user("counted", "connections", 2)
    first = access.connect("counted")
    first.channel().sync()
    second = access.connect("counted")
    access.administrator.await_counted("connection", "user", "counted", 2)
    text = "connection refused for user 'counted': user connection limit (2) is reached"
    access.to_open("counted").expect_connection_close(530, text, cause=Connection.Open)
    access.administrator.await_counted("channel", "user", "counted", 1)
    access.administrator.limit_user("counted", "channels", 1)  # what is open stays, and counts
    second.channel(1, opened=False).send(Channel.Open)
    second.expect_connection_close(530, channel_limit_reached(access, 1, "counted"), cause=NO_CAUSE)
    first.channels[1].sync()


def test_a_limit_of_queues_counts_those_of_all_kinds(access: AccessUnderTest) -> None:
    name = "access-limits"
    access.administrator.add_vhost(name)
    try:
        access.administrator.permit("ada", ".*", ".*", ".*", name)
        client = access.connect(vhost=name)
        ch = client.channel()
        ch.call(Queue.Declare, queue="", exclusive=True)
        ch.call(Queue.Declare, queue="durable", durable=True)
        access.administrator.limit_vhost(name, "queues", 1)
        ch.call(Queue.Declare, queue="durable", durable=True)
        ch.call(Queue.Declare, queue="durable", passive=True)
        ch.send(Queue.Declare, queue="one more", exclusive=True)
        text = f"cannot declare queue 'one more': queue limit in vhost '{name}' (1) is reached"
        ch.expect_close(406, text, cause=Queue.Declare)
        ch = client.channel()
        ch.send(Queue.Declare, queue="")
        before, after = "cannot declare queue '", f"': queue limit in vhost '{name}' (1) is reached"
        ch.expect_close(406, re.compile(f"{re.escape(before)}amq\\.gen-.*{re.escape(after)}"), cause=Queue.Declare)
    finally:
        access.administrator.delete_vhost(name)


def test_limits_of_a_virtual_host(access: AccessUnderTest) -> None:
    name = "access-limits"
    access.administrator.add_vhost(name)
    try:
        access.administrator.permit("ada", ".*", ".*", ".*", name)
        access.administrator.limit_vhost(name, "queues", 1)
        ch = access.connect(vhost=name).channel()
        ch.call(Queue.Declare, queue="one")
        ch.call(Queue.Declare, queue="one")
        ch.send(Queue.Declare, queue="two")
        text = f"cannot declare queue 'two': queue limit in vhost '{name}' (1) is reached"
        ch.expect_close(406, text, cause=Queue.Declare)
        access.administrator.limit_vhost(name, "connections", 0)
        text = f"access to vhost '{name}' refused for user 'ada': connection limit (0) is reached"
        access.to_open("ada", name).expect_connection_close(530, text, cause=Connection.Open)
    finally:
        access.administrator.delete_vhost(name)


# Changes while clients are connected


def test_user_deleted_while_connected(access: AccessUnderTest) -> None:
    access.administrator.add_user("brief", "secret")
    access.administrator.permit("brief", ".*", ".*", ".*")
    client = access.connect("brief")
    client.channel().sync()
    access.administrator.delete_user("brief")
    client.expect_connection_close(320, "user 'brief' is deleted", cause=NO_CAUSE)


def test_virtual_host_deleted_while_connected(access: AccessUnderTest) -> None:
    access.administrator.add_vhost("brief")
    access.administrator.permit("ada", ".*", ".*", ".*", "brief")
    client = access.connect(vhost="brief")
    client.channel().call(Queue.Declare, queue="q")
    access.administrator.delete_vhost("brief")
    # RabbitMQ tells the connections twice, and either may come first.
    client.expect_connection_close(320, re.compile("vhost 'brief' is (deleted|down)"), cause=NO_CAUSE)
    access.to_open("ada", "brief").expect_connection_close(530, "vhost brief not found", cause=Connection.Open)


def test_password_changed_while_connected(access: AccessUnderTest) -> None:
    access.add("eve")
    client = access.connect("eve")
    ch = client.channel()
    access.administrator._run(
        ["change_password", "eve", "other"], ["users", "password", "eve", "--password-stdin"], "other\n"
    )
    ch.sync()
    newcomer = access.broker.socket()
    newcomer.begin()
    newcomer.send_start_ok(user="eve", password="secret")
    text = "Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
    newcomer.expect_connection_close(403, text, cause=NO_CAUSE, then="stay")


def test_permission_withdrawn_while_connected(access: AccessUnderTest) -> None:
    access.add("eve")
    ch = access.channel("eve")
    ch.publish("", "nowhere", b"")
    ch.sync()
    access.administrator.permit("eve", "^$", "^$", "^$")
    ch.publish("amq.topic", "nowhere", b"")
    ch.expect_close(403, access.refused("exchange", "amq.topic", "eve"), cause=Basic.Publish)


def test_permission_withdrawn_from_what_was_done_before(access: AccessUnderTest) -> None:
    access.add("eve")
    ch = access.channel("eve")
    ch.publish("", "nowhere", b"")
    ch.sync()
    access.administrator.permit("eve", "^$", "^$", "^$")
    ch.publish("", "nowhere", b"")
    if access.broker.differs("permission-withdrawn"):
        ch.expect_close(403, access.refused("exchange", "amq.default", "eve"), cause=Basic.Publish)
    else:
        ch.send(Channel.Flow, active=True)
        assert ch.client.next(channel=ch.number).method in (Channel.FlowOk, Channel.Close)


def test_virtual_host_withdrawn_leaves_the_connection_open(access: AccessUnderTest) -> None:
    access.add("eve")
    client = access.connect("eve")
    access.administrator.forbid("eve")
    ch = client.channel()
    ch.send(Queue.Declare, queue="mine")
    ch.expect_close(403, access.refused("queue", "mine", "eve"), cause=Queue.Declare)
