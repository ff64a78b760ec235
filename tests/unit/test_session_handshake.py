"""From the protocol header to connection.open-ok: the right way, and every wrong turn, against the clock."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import body, commands, header, heartbeat

from amqp_broker.access.client import Peer
from amqp_broker.access.users import EVERYTHING
from amqp_broker.errors import OtherProtocol
from amqp_broker.protocols.amqp091.connection import SILENT_CLOSE_MS
from amqp_broker.wire.table import encode_table
from tests.support.client import PROTOCOL_HEADER, Client, Cut
from tests.support.memory_broker import MemoryBroker

FAR_AWAY = Peer("192.0.2.7", 40001, False)


@pytest.fixture
def newcomer(broker: MemoryBroker, cut: Cut) -> Client:
    """A client that has not sent anything yet."""
    return Client(broker, cut=cut)


def assert_silent_close(client: Client) -> None:
    """The client hears nothing, and after three seconds its connection ends."""
    assert client.take_bytes() == b""
    assert not client.is_finished()
    client.broker.advance(SILENT_CLOSE_MS - 1)
    assert not client.is_finished()
    client.broker.advance(1)
    assert client.is_finished()
    assert client.take_bytes() == b""


# --- the right way


def test_start_tells_what_clients_choose_their_ways_by(newcomer: Client) -> None:
    newcomer.send_bytes(PROTOCOL_HEADER)
    start = newcomer.one(commands.Connection.Start)
    assert (start.version_major, start.version_minor) == (0, 9)
    assert start.mechanisms is not None
    assert start.mechanisms.split() == ["PLAIN", "AMQPLAIN"]
    assert start.locales == "en_US"
    properties = start.server_properties
    assert properties is not None
    assert properties["product"] == "RabbitMQ"
    assert str(properties["version"]).startswith("3.13.")
    capabilities = properties["capabilities"]
    assert capabilities == dict.fromkeys(
        (
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ),
        True,
    )


def test_tune_offers_the_settings(cut: Cut) -> None:
    broker = MemoryBroker(channels_per_connection_max=77, frame_size_bytes_max=8192, heartbeat_s=13)
    tune = Client(broker, cut=cut).start()
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (77, 8192, 13)


def test_an_open_connection_knows_its_client(newcomer: Client) -> None:
    newcomer.open()
    connection = newcomer.connection
    assert (connection.user_name, connection.virtual_host_name) == ("guest", "/")
    assert not connection.finished


def test_the_protocol_header_of_the_other_spelling_is_taken(newcomer: Client) -> None:
    newcomer.send_bytes(b"AMQP\x01\x01\x00\x09")
    newcomer.one(commands.Connection.Start)


def test_amqplain(newcomer: Client) -> None:
    response = encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:].decode("latin-1")
    newcomer.open(mechanism="AMQPLAIN", response=response)


def test_all_of_the_handshake_in_one_chunk(newcomer: Client) -> None:
    frames = [newcomer.start_ok(), commands.Connection.TuneOk(2047, 131072, 0), commands.Connection.Open("/")]
    newcomer.send(header.ProtocolHeader(0, 9, 1), *frames)
    names = [one.method.name for one in newcomer.received()]
    assert names == ["Connection.Start", "Connection.Tune", "Connection.OpenOk"]


def test_another_user_and_virtual_host(newcomer: Client) -> None:
    broker = newcomer.broker
    broker.add_virtual_host("orders")
    broker.users.add("ada", "secret")
    broker.users.permit_all("ada", "orders")
    newcomer.open(user="ada", password="secret", virtual_host="orders")
    assert (newcomer.connection.user_name, newcomer.connection.virtual_host_name) == ("ada", "orders")


# --- protocol headers


@pytest.mark.parametrize(
    "first_bytes",
    [
        b"AMQP\x00\x00\x08\x00",
        b"AMQP\x03\x01\x01\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ],
    ids=["AMQP 0-8", "SASL of AMQP 1.1", "HTTP", "TLS"],
)
def test_an_impossible_header_is_answered_with_the_right_one(newcomer: Client, first_bytes: bytes) -> None:
    newcomer.send_bytes(first_bytes)
    assert newcomer.take_bytes() == PROTOCOL_HEADER
    assert newcomer.is_finished()
    assert "protocol header" in newcomer.connection.close_reason


@pytest.mark.parametrize("header", [b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00"])
def test_a_client_of_amqp_1_0_is_handed_over_with_all_that_it_has_sent(newcomer: Client, header: bytes) -> None:
    with pytest.raises(OtherProtocol) as raised:
        newcomer.send_bytes(header + b"more")
    assert (header + b"more").startswith(raised.value.data)
    assert raised.value.data.startswith(header)
    assert newcomer.take_bytes() == b""


def test_a_header_that_is_cut_short_is_waited_for(newcomer: Client) -> None:
    newcomer.send_bytes(PROTOCOL_HEADER[:7])
    assert newcomer.take_bytes() == b""
    newcomer.send_bytes(PROTOCOL_HEADER[7:])
    newcomer.one(commands.Connection.Start)


# --- authentication


def test_wrong_password(newcomer: Client) -> None:
    newcomer.send_bytes(PROTOCOL_HEADER)
    newcomer.received()
    newcomer.send(newcomer.start_ok(password="wrong"))
    close = newcomer.closed_with()
    assert close.reply_code == 403
    assert close.reply_text == (
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
    )
    assert (close.class_id, close.method_id) == (0, 0)
    newcomer.send(commands.Connection.CloseOk())
    assert newcomer.is_finished()


def test_unknown_user(newcomer: Client) -> None:
    newcomer.send_bytes(PROTOCOL_HEADER)
    newcomer.received()
    newcomer.send(newcomer.start_ok(user="nobody", password=""))
    assert newcomer.closed_with().reply_code == 403


def test_wrong_password_of_a_client_that_cannot_be_told(newcomer: Client) -> None:
    newcomer.send_bytes(PROTOCOL_HEADER)
    newcomer.received()
    newcomer.send(newcomer.start_ok(password="wrong", capabilities={}))
    assert_silent_close(newcomer)
    assert "Login was refused" in newcomer.connection.close_reason


@pytest.mark.parametrize(("peer", "is_let_in"), [(FAR_AWAY, False), (Peer("::1", 1, True), True)])
def test_guest_may_come_from_this_machine_only(broker: MemoryBroker, cut: Cut, peer: Peer, is_let_in: bool) -> None:
    client = Client(broker, cut=cut, peer=peer)
    client.send_bytes(PROTOCOL_HEADER)
    client.received()
    client.send(client.start_ok())
    answer = client.received()[0].method
    assert answer.name == ("Connection.Tune" if is_let_in else "Connection.Close")


def test_others_may_come_from_anywhere(broker: MemoryBroker, cut: Cut) -> None:
    broker.users.add("ada", "secret")
    broker.users.permit_all("ada", "/")
    Client(broker, cut=cut, peer=FAR_AWAY).open(user="ada", password="secret")


@pytest.mark.parametrize(
    "start_ok",
    [
        {"mechanism": "SCRAM"},
        {"response": "no zero bytes"},
        {"response": "\0guest"},
        {"response": "identity\0guest\0guest"},
        {"mechanism": "AMQPLAIN", "response": "not a table"},
        {"mechanism": "AMQPLAIN", "response": encode_table({"LOGIN": "guest"})[4:].decode()},
        {"mechanism": "AMQPLAIN", "response": encode_table({"LOGIN": 1, "PASSWORD": 2})[4:].decode("latin-1")},
    ],
    ids=["mechanism", "no zeros", "one zero", "identity", "no table", "no password", "numbers"],
)
def test_a_response_that_is_none_ends_in_silence(newcomer: Client, start_ok: dict[str, Any]) -> None:
    newcomer.send_bytes(PROTOCOL_HEADER)
    newcomer.received()
    newcomer.send(newcomer.start_ok(**start_ok))
    assert_silent_close(newcomer)


# --- negotiation


@pytest.mark.parametrize(
    ("tune_ok", "text"),
    [
        (
            {"channel_max": 2048},
            "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)",
        ),
        (
            {"channel_max": 0},
            "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
        ),
        (
            {"frame_max": 131_073},
            "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)",
        ),
        (
            {"frame_max": 0},
            "negotiated frame_max = 0 (no limit) is higher than the maximum allowed value (131072)",
        ),
        ({"frame_max": 4095}, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
    ],
)
def test_negotiation_out_of_bounds(newcomer: Client, tune_ok: dict[str, int], text: str) -> None:
    newcomer.start()
    newcomer.tune_ok(**tune_ok)
    newcomer.frame_size_bytes_max = 131_072
    close = newcomer.closed_with()
    assert (close.reply_code, close.reply_text) == (530, f"NOT_ALLOWED - {text}")


@pytest.mark.parametrize(("channel_max", "frame_max"), [(1, 4096), (2047, 131_072)])
def test_negotiation_at_the_bounds(newcomer: Client, channel_max: int, frame_max: int) -> None:
    newcomer.open(channel_max=channel_max, frame_max=frame_max)
    assert newcomer.connection.frame_size_bytes_max == frame_max
    assert newcomer.connection.channels_max == channel_max


def test_no_limit_where_the_broker_has_none(cut: Cut) -> None:
    broker = MemoryBroker(channels_per_connection_max=0)
    Client(broker, cut=cut).open(channel_max=0).channel(65535)


# --- the virtual host


def test_unknown_virtual_host(newcomer: Client) -> None:
    newcomer.start()
    newcomer.tune_ok()
    newcomer.send(commands.Connection.Open("nope"))
    close = newcomer.closed_with()
    assert (close.reply_code, close.reply_text) == (530, "NOT_ALLOWED - vhost nope not found")
    assert (close.class_id, close.method_id) == (10, 40)


def test_a_virtual_host_without_permission(newcomer: Client) -> None:
    newcomer.broker.add_virtual_host("orders")
    newcomer.start()
    newcomer.tune_ok()
    newcomer.send(commands.Connection.Open("orders"))
    close = newcomer.closed_with()
    text = "NOT_ALLOWED - access to vhost 'orders' refused for user 'guest'"
    assert (close.reply_code, close.reply_text) == (530, text)


def test_permission_is_asked_for_at_open(newcomer: Client) -> None:
    newcomer.broker.add_virtual_host("orders")
    newcomer.start()
    newcomer.tune_ok()
    user = newcomer.broker.users.get("guest")
    assert user is not None
    user.permissions["orders"] = EVERYTHING
    newcomer.send(commands.Connection.Open("orders"))
    newcomer.one(commands.Connection.OpenOk)


# --- what does not belong here


@pytest.mark.parametrize(
    "frame",
    [
        commands.Connection.Open("/"),
        commands.Connection.TuneOk(),
        commands.Channel.Open(),
        commands.Basic.Publish(),
        body.ContentBody(b"x"),
    ],
    ids=lambda frame: str(frame.name),
)
def test_the_wrong_frame_instead_of_start_ok_ends_in_silence(newcomer: Client, frame: Any) -> None:
    newcomer.send_bytes(PROTOCOL_HEADER)
    newcomer.received()
    newcomer.send(frame)
    assert_silent_close(newcomer)


def test_a_frame_on_a_channel_before_open(newcomer: Client) -> None:
    newcomer.start()
    newcomer.send(commands.Channel.Open(), channel=1)
    assert_silent_close(newcomer)


def test_the_wrong_method_instead_of_open(newcomer: Client) -> None:
    newcomer.start()
    newcomer.tune_ok()
    newcomer.send(newcomer.start_ok())
    close = newcomer.closed_with()
    assert close.reply_code == 504
    assert "opening" in (close.reply_text or "")


def test_after_a_silent_end_nothing_is_listened_to(newcomer: Client) -> None:
    newcomer.send_bytes(PROTOCOL_HEADER)
    newcomer.received()
    newcomer.send(commands.Connection.TuneOk())
    newcomer.send(newcomer.start_ok(), commands.Connection.TuneOk(2047, 131072, 0), commands.Connection.Open("/"))
    assert_silent_close(newcomer)
    assert newcomer.connection.virtual_host_name == ""


def test_a_heartbeat_in_the_handshake_is_no_mistake(newcomer: Client) -> None:
    newcomer.start()
    newcomer.send(heartbeat.Heartbeat())
    newcomer.tune_ok()
    newcomer.send(commands.Connection.Open("/"))
    newcomer.one(commands.Connection.OpenOk)


def test_a_frame_larger_than_the_handshake_allows(newcomer: Client) -> None:
    newcomer.send_bytes(PROTOCOL_HEADER)
    newcomer.received()
    newcomer.send_bytes(b"\x01\x00\x00\x7f\xff\xff\xff")
    assert_silent_close(newcomer)


# --- time


@pytest.mark.parametrize("sent", [b"", PROTOCOL_HEADER[:5], PROTOCOL_HEADER], ids=["nothing", "half", "header"])
def test_handshake_timeout(newcomer: Client, sent: bytes) -> None:
    newcomer.send_bytes(sent)
    newcomer.broker.advance(newcomer.broker.settings.handshake_timeout_ms - 1)
    assert not newcomer.is_finished()
    newcomer.broker.advance(1)
    assert newcomer.is_finished()
    assert newcomer.connection.close_reason == "handshake timeout"


def test_an_open_connection_has_no_handshake_timeout(newcomer: Client) -> None:
    newcomer.open()
    newcomer.broker.advance(10 * newcomer.broker.settings.handshake_timeout_ms)
    assert not newcomer.is_finished()


def test_a_connection_that_is_lost_in_the_handshake_leaves_nothing_behind(newcomer: Client) -> None:
    newcomer.start()
    newcomer.connection.lost("reset by peer")
    assert newcomer.is_finished()
    assert newcomer.connection.close_reason == "reset by peer"
    assert newcomer.broker.timers.next_deadline_ms() is None
