"""Output that nobody takes, and logs that must not tell: what a client that only sends can cost."""

from __future__ import annotations

import struct

from pamqp import commands

from tests.support.client import PROTOCOL_HEADER, Client
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker


def ask_without_reading(client: Client, times: int) -> None:
    """Get a message of a megabyte again and again; each get leaves an answer that nobody takes."""
    channel = client.channel()
    channel.declare("q")
    channel.publish("", "q", b"x" * 1_000_000)
    channel.received()
    channel.send(*[commands.Basic.Get(queue="q"), commands.Basic.Recover(requeue=True)] * times)


def test_a_client_that_asks_and_never_reads_is_not_heard_any_more(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    ask_without_reading(client, 60)
    assert client.connection.is_reading_paused
    assert client.connection.waiting_bytes < 20_000_000


def test_it_is_heard_again_when_it_has_read(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    ask_without_reading(client, 60)
    answers = 0
    while client.connection.waiting_bytes:
        answers += sum(isinstance(one.method, commands.Basic.GetOk) for one in client.received(1))
    assert not client.connection.is_reading_paused
    assert answers == 60


def test_output_does_not_outlive_its_connection(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    ask_without_reading(client, 5)
    client.connection.lost("gone")
    assert client.connection.take_output() == []


def test_what_a_client_sent_is_not_logged(broker: MemoryBroker) -> None:
    """A start-ok with a wrong length: the client is shown its bytes, the log is not."""
    client = Client(broker)
    client.send_bytes(PROTOCOL_HEADER)
    payload = struct.pack(">HHI", 10, 11, 0) + b"\x05PLAIN" + struct.pack(">I", 99) + b"\0guest\0secret"
    client.send_bytes(struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce")
    assert client.connection.close_reason
    for secret in ("secret", ",".join(str(byte) for byte in b"secret")):
        assert secret not in client.connection.close_reason


def test_a_wrong_protocol_header_is_not_logged(broker: MemoryBroker) -> None:
    client = Client(broker)
    client.send_bytes(b"SECRETPW")
    assert client.connection.close_reason == "wrong protocol header"


def test_who_outruns_the_disk_is_not_read_until_it_has_caught_up() -> None:
    broker = DiskBroker(journal_pending_bytes_max=10_000)
    client = broker.client()
    channel = client.channel()
    channel.declare("q", durable=True)
    broker.writes_at_once = False
    channel.publish("", "q", b"x" * 5_000, delivery_mode=2)
    assert not client.connection.is_reading_paused
    channel.publish("", "q", b"x" * 10_000, delivery_mode=2)
    assert client.connection.is_reading_paused
    broker.write()
    assert not client.connection.is_reading_paused


def test_more_may_wait_for_the_disk_while_nobody_waits_for_it() -> None:
    broker = DiskBroker(journal_pending_bytes_max=10_000)
    client, other = broker.client(), broker.client()
    channel = client.channel()
    channel.declare("q", durable=True)
    broker.unawaited_bytes_max = 50_000
    broker.writes_at_once = False
    channel.publish("", "q", b"x" * 20_000, delivery_mode=2)
    assert not client.connection.is_reading_paused
    other.channel().send(commands.Queue.Declare(queue="r", durable=True))
    channel.publish("", "q", b"x", delivery_mode=2)
    assert client.connection.is_reading_paused
    broker.write()
    channel.publish("", "q", b"x" * 20_000, delivery_mode=2)
    assert not client.connection.is_reading_paused
    channel.publish("", "q", b"x" * 40_000, delivery_mode=2)
    assert client.connection.is_reading_paused


def test_what_waits_for_less_does_not_let_go_of_what_waits_for_more_before_it() -> None:
    broker = DiskBroker()
    one, two = broker.client().channel(), broker.client().channel()
    one.declare("q", durable=True)
    two.call(commands.Tx.Select())
    broker.writes_at_once = False
    one.send(commands.Queue.Declare(queue="r", durable=True))
    batch = broker.durability.take_batch()
    assert batch is not None
    two.publish("", "q", b"", delivery_mode=2)
    two.send(commands.Tx.Commit())
    two.send(commands.Queue.Declare(queue="q", passive=True))  # waits for what was declared last, which is kept sooner
    broker.journal.write(batch)
    broker.journal.committed(batch)
    broker.committed()
    assert two.methods() == [], "the transaction is not written"
    broker.write()
    assert [method.name for method in two.methods()] == ["Tx.CommitOk", "Queue.DeclareOk"]
