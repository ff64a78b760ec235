"""What an administrator changes: checked, durable, and at once in force for whoever is connected."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pamqp import commands

from amqp_broker.access.client import Peer
from amqp_broker.access.passwords import SHA256, NotVerifiedYet
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.persistence.definitions import keep_queue
from amqp_broker.broker.problems import AdministrationError, AlreadyThere, NotThere
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.settings import Settings
from tests.support.client import Client
from tests.support.manual_clock import ManualClock
from tests.support.memory_broker import MemoryBroker
from tests.unit.journal_helpers import commit, opened


@pytest.fixture
def ada(broker: MemoryBroker) -> Client:
    """A connection of a user who may do everything."""
    broker.administration.add_user("ada", "secret", algorithm=SHA256)
    broker.administration.set_permission("ada", "/", ".*", ".*", ".*")
    return Client(broker).open(user="ada", password="secret")


def test_a_new_user_may_do_nothing(broker: MemoryBroker) -> None:
    broker.administration.add_user("ada", "secret", ("management",), algorithm=SHA256)
    client = Client(broker)
    client.start(user="ada", password="secret")
    client.tune_ok()
    client.send(commands.Connection.Open("/"))
    assert client.closed_with().reply_text == "NOT_ALLOWED - access to vhost '/' refused for user 'ada'"


def test_what_cannot_be_done_changes_nothing(broker: MemoryBroker) -> None:
    administration = broker.administration
    with pytest.raises(AlreadyThere):
        administration.add_user("guest", "other")
    with pytest.raises(AlreadyThere):
        administration.add_virtual_host("/")
    for name, password in (("", "secret"), ("a\nb", "secret"), ("n" * 256, "secret"), ("ada", ""), ("ada", "a\0b")):
        with pytest.raises(AdministrationError):
            administration.add_user(name, password)
    with pytest.raises(AdministrationError, match="none of"):
        administration.add_user("ada", "secret", algorithm="md5")
    assert len(broker.users) == 1
    nobody: list[Callable[[], object]] = [
        lambda: administration.delete_user("nobody"),
        lambda: administration.set_tags("nobody", ()),
        lambda: administration.change_password("nobody", "secret"),
        lambda: administration.set_permission("nobody", "/", "", "", ""),
        lambda: administration.set_permission("guest", "nowhere", "", "", ""),
        lambda: administration.delete_virtual_host("nowhere"),
        lambda: administration.set_virtual_host_limits("nowhere", queues_max=1),
    ]
    for attempt in nobody:
        with pytest.raises(NotThere):
            attempt()
    with pytest.raises(AdministrationError, match="write pattern"):
        administration.set_permission("guest", "/", ".*", "(", ".*")
    with pytest.raises(AdministrationError, match="write pattern"):
        administration.set_topic_permission("guest", "/", "amq.topic", "{username}(", "")
    with pytest.raises(AdministrationError):
        administration.set_user_limits("guest", channels_max=-1)
    Client(broker).open().channel().declare("q")


def test_a_withdrawn_permission_stops_a_publisher_at_its_next_message(broker: MemoryBroker, ada: Client) -> None:
    channel = ada.channel()
    channel.declare("q")
    channel.publish("", "q", b"1")
    broker.administration.set_permission("ada", "/", ".*", "^$", ".*")
    channel.publish("", "q", b"2")
    text = "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'ada'"
    assert channel.one(commands.Channel.Close).reply_text == text
    assert broker.queue("q").ready_count == 1


def test_a_topic_permission_acts_on_a_publisher_at_once(broker: MemoryBroker, ada: Client) -> None:
    channel = ada.channel()
    channel.publish("amq.topic", "bob.1")
    assert channel.methods() == []
    broker.administration.set_topic_permission("ada", "/", "amq.topic", "^{username}\\.", ".*")
    channel.publish("amq.topic", "ada.1")
    assert channel.methods() == []
    channel.publish("amq.topic", "bob.1")
    assert "topic 'bob.1'" in str(channel.one(commands.Channel.Close).reply_text)


def test_a_topic_permission_for_what_no_exchange_is_called_changes_nothing(broker: MemoryBroker) -> None:
    broker.administration.add_user("eve", None)
    with pytest.raises(AdministrationError, match="255 bytes"):
        broker.administration.set_topic_permission("eve", "/", "x" * 256, ".*", ".*")
    assert broker.administration.user("eve").topic_permissions == {}


def test_a_tag_that_is_taken_away_is_missed_at_once(broker: MemoryBroker, ada: Client) -> None:
    broker.administration.set_tags("ada", ("impersonator",))
    channel = ada.channel()
    channel.publish("", "nowhere", b"", user_id="guest")
    assert channel.methods() == []
    broker.administration.set_tags("ada", ())
    channel.publish("", "nowhere", b"", user_id="guest")
    text = "PRECONDITION_FAILED - user_id property set to 'guest' but authenticated user was 'ada'"
    assert channel.one(commands.Channel.Close).reply_text == text


def test_a_name_that_makes_no_pattern_matches_nothing(broker: MemoryBroker) -> None:
    broker.administration.add_user("(", "secret", algorithm=SHA256)
    broker.administration.set_permission("(", "/", ".*", ".*", ".*")
    broker.administration.set_topic_permission("(", "/", "amq.topic", "{username}", ".*")
    channel = Client(broker).open(user="(", password="secret").channel()
    channel.publish("amq.topic", "(")
    assert channel.one(commands.Channel.Close).reply_code == 403


def test_deleting_a_user_closes_the_connections(broker: MemoryBroker, ada: Client) -> None:
    bystander = Client(broker).open()
    ada.channel().declare("q", exclusive=True)
    broker.administration.delete_user("ada")
    close = ada.closed_with()
    assert (close.reply_code, close.reply_text) == (320, "CONNECTION_FORCED - user 'ada' is deleted")
    assert len(broker.open_connections) == 2  # until the client has answered
    ada.send(commands.Connection.CloseOk())
    assert ada.is_finished()
    assert list(broker.open_connections) == [bystander.connection]
    assert not broker.virtual_host.queues


def test_a_user_who_is_deleted_while_logging_in_gets_nowhere(broker: MemoryBroker) -> None:
    broker.administration.add_user("ada", "secret", algorithm=SHA256)
    broker.administration.set_permission("ada", "/", ".*", ".*", ".*")
    client = Client(broker)
    client.start(user="ada", password="secret")
    broker.administration.delete_user("ada")
    client.tune_ok()
    client.send(commands.Connection.Open("/"))
    assert client.closed_with().reply_code == 530


def test_deleting_a_virtual_host_takes_all_that_is_in_it(broker: MemoryBroker) -> None:
    broker.administration.add_virtual_host("orders")
    broker.administration.set_permission("guest", "orders", ".*", ".*", ".*")
    client = Client(broker).open(virtual_host="orders")
    channel = client.channel()
    channel.declare("q")
    channel.exchange("x", auto_delete=True)
    channel.bind("q", "x")
    channel.consume("q")
    channel.publish("x", "", b"a message")
    broker.administration.delete_virtual_host("orders")
    assert client.closed_with().reply_text == "CONNECTION_FORCED - vhost 'orders' is deleted"
    assert "orders" not in broker.virtual_hosts
    guest = broker.users.get("guest")
    assert guest is not None
    assert list(guest.permissions) == ["/"]


def test_limits_count_what_is_open(broker: MemoryBroker, ada: Client) -> None:
    administration = broker.administration
    administration.set_user_limits("ada", connections_max=2, channels_max=1)
    channel = ada.channel()
    second = Client(broker).open(user="ada", password="secret")
    third = Client(broker)
    third.start(user="ada", password="secret")
    third.tune_ok()
    third.send(commands.Connection.Open("/"))
    assert third.closed_with().reply_text == (
        "NOT_ALLOWED - connection refused for user 'ada': user connection limit (2) is reached"
    )
    channel.call(commands.Channel.Close(200, "", 0, 0))
    second.channel()
    ada.send(commands.Channel.Open(), channel=3)
    assert "maximum allowed user limit of (1)" in str(ada.closed_with().reply_text)
    administration.set_user_limits("ada", connections_max=None)
    Client(broker).open(user="ada", password="secret")


def test_limit_of_all_connections() -> None:
    broker = MemoryBroker(connections_max=1)
    Client(broker).open()
    client = Client(broker)
    client.start()
    client.tune_ok()
    client.send(commands.Connection.Open("/"))
    assert client.closed_with().reply_text == ("NOT_ALLOWED - connection refused: node connection limit (1) is reached")


def test_update_secret_looks_again(broker: MemoryBroker, ada: Client) -> None:
    channel = ada.channel()
    for name in ("mine", "other"):
        channel.declare(name)
        channel.consume(name, tag=name)
    broker.administration.set_permission("ada", "/", "", "", "^mine$")
    ada.send(commands.Connection.UpdateSecret("new", "because"))
    ada.one(commands.Connection.UpdateSecretOk)
    assert channel.one(commands.Basic.Cancel).consumer_tag == "other"
    broker.administration.clear_permission("ada", "/")
    ada.send(commands.Connection.UpdateSecret("new", "because"))
    assert ada.closed_with().reply_text == "NOT_ALLOWED - access to vhost '/' refused for user 'ada'"


@pytest.mark.parametrize(
    ("host", "is_let_in"), [("10.0.0.1", False), ("::ffff:127.0.0.1", True), ("::1", True), ("::ffff:10.0.0.1", False)]
)
def test_guest_comes_from_this_machine_only(broker: MemoryBroker, host: str, is_let_in: bool) -> None:
    client = Client(broker, peer=Peer.at(host, 1))
    client.send_bytes(b"AMQP\x00\x00\x09\x01")
    client.received()
    client.send(client.start_ok())
    if is_let_in:
        client.one(commands.Connection.Tune)
    else:
        assert client.closed_with().reply_code == 403
        assert "can only connect via localhost" in client.connection.close_reason


def test_a_slow_password_check_lets_the_others_go_on(broker: MemoryBroker, ada: Client) -> None:
    """And what the client sent behind its login is handled when the verdict is there."""
    waiting: list[tuple[NotVerifiedYet, Callable[[], None]]] = []
    broker.driver.verify_password = lambda check, go_on, is_wanted: waiting.append((check, go_on))  # type: ignore[method-assign]
    broker.users.add("bob", "secret", algorithm="scrypt:n=2,r=1,p=1")
    broker.users.permit_all("bob", "/")
    broker.users.verifier._verdicts.clear()
    bob = Client(broker)
    bob.send_bytes(b"AMQP\x00\x00\x09\x01")
    bob.received()
    bob.send(bob.start_ok(user="bob"), commands.Connection.TuneOk(2047, 131072, 0), commands.Connection.Open("/"))
    assert bob.received() == []
    assert bob.connection.is_reading_paused
    ada.channel().declare("q")
    ((check, go_on),) = waiting
    check.remember(False)
    broker.handle(go_on)
    assert bob.closed_with().reply_code == 403
    assert not bob.connection.is_reading_paused


def test_all_of_it_outlives_the_broker() -> None:
    files = MemoryFiles()
    journal = opened_unread(files)
    broker = Broker(Settings(), ManualClock())
    broker.open(journal)
    administration = broker.administration
    administration.add_user("ada", "secret", ("management",), algorithm="scrypt:n=2,r=1,p=1")
    administration.add_virtual_host("orders")
    administration.add_virtual_host("gone")
    administration.set_permission("ada", "orders", "^a", "^b", "^(?!c)")
    administration.set_permission("ada", "gone", "", "", "")
    administration.set_topic_permission("ada", "orders", "x", "^{username}", ".*")
    administration.set_user_limits("ada", connections_max=3)
    broker.virtual_hosts["orders"].add_queue("q", durable=True, auto_delete=False, owner=None, table={})
    keep_queue(broker.durability, broker.virtual_hosts["orders"].queues["q"])
    administration.set_virtual_host_limits("orders", queues_max=7)
    administration.set_virtual_host_limits("orders", queues_max=8)
    administration.delete_virtual_host("gone")
    administration.delete_user("guest")
    commit(journal)
    journal.close()
    journal, found = opened(files)
    journal.close()
    assert len(found) == 5  # two virtual hosts, a user, a queue, limits: nothing else was left behind
    again = Broker(Settings(), ManualClock())
    again.open(opened_unread(files))
    user = again.users.get("ada")
    assert user is not None
    assert [one.name for one in again.users] == ["ada"]
    assert user.password_hash.matches(b"secret")
    assert user.tags == ("management",)
    assert list(user.permissions) == ["orders"]
    assert user.permissions["orders"].read.source == "^(?!c)"
    assert user.topic_permissions["orders"]["x"].write == "^{username}"
    assert (user.limits.connections_max, user.limits.channels_max) == (3, None)
    assert sorted(again.virtual_hosts) == ["/", "orders"]
    assert again.virtual_hosts["orders"].limits.queues_max == 8


def opened_unread(files: MemoryFiles) -> SegmentJournal:
    """A journal for a broker that reads it itself."""
    return SegmentJournal(files, 4096)
