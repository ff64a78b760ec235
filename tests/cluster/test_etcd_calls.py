"""etcd's protocol: against a server of h2 in memory, and against a real etcd where there is one."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from random import Random
from typing import Self

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.etcd import http2, messages
from amqp_broker.etcd.calls import OK, UNAVAILABLE, Answer, Calls, ConnectionFailed, Ended
from amqp_broker.etcd.protobuf import Fields, MalformedMessage, decode, encode_varint, integer, integer_of, message
from tests.support.etcd_process import ETCD, EtcdMember, one_member
from tests.support.examples import examples

Respond = Callable[[str, bytes], tuple[list[bytes], int, str]]


class Server:
    """The other side in memory: answers each call when it has been heard in full.

    Args:
        respond: the messages, the status and the words for a call.
        window_bytes: how much it takes of a call at once.
        padding_bytes: stuff behind what it says; None for none.
    """

    def __init__(self, respond: Respond, window_bytes: int = 65_535, padding_bytes: int | None = None) -> None:
        self._connection = H2Connection(H2Configuration(client_side=False))
        self._connection.initiate_connection()
        self._connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window_bytes})
        self._padding_bytes = padding_bytes
        self._unsent: dict[int, deque[bytes]] = {}
        self._ends: dict[int, list[tuple[str, str]]] = {}
        self._respond = respond
        self._paths: dict[int, str] = {}
        self._bodies: dict[int, bytearray] = {}

    def answer(self, data: bytes) -> bytes:
        for event in self._connection.receive_data(data):
            if isinstance(event, RequestReceived):
                stream = event.stream_id or 0
                self._paths[stream] = dict(event.headers or ())[b":path"].decode()
                self._bodies[stream] = bytearray()
            elif isinstance(event, DataReceived):
                stream = event.stream_id or 0
                self._bodies[stream] += event.data or b""
                self._connection.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            elif isinstance(event, StreamEnded):
                self._finish(event.stream_id or 0)
        for stream in list(self._unsent):
            self._send_what_fits(stream)
        return self._connection.data_to_send() or b""

    def answer_late(self, stream: int) -> bytes:
        """A call that ``_finish`` has left alone."""
        Server._finish(self, stream)
        self._send_what_fits(stream)
        return self._connection.data_to_send() or b""

    def _finish(self, stream: int) -> None:
        answers, status, text = self._respond(self._paths[stream], bytes(self._bodies[stream][5:]))
        self._connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        self._unsent[stream] = deque(struct.pack(">BI", 0, len(answer)) + answer for answer in answers)
        self._ends[stream] = [("grpc-status", str(status)), ("grpc-message", text)]

    def _send_what_fits(self, stream: int) -> None:
        unsent, padding_bytes = self._unsent[stream], self._padding_bytes
        while unsent:
            window_bytes = min(self._connection.local_flow_control_window(stream), 16_384) - (padding_bytes or 0) - 1
            if window_bytes <= 0:
                return
            data = unsent.popleft()
            if data[window_bytes:]:
                unsent.appendleft(data[window_bytes:])
            self._connection.send_data(stream, data[:window_bytes], pad_length=padding_bytes)
        del self._unsent[stream]
        self._connection.send_headers(stream, self._ends.pop(stream), end_stream=True)


class SlowLogins(Server):
    """Another side that answers all but logins at once.

    Args:
        name: what it answers to all other calls.
        leaders: which member leads, each time it is asked; the last one from then on.
    """

    def __init__(self, name: bytes, leaders: Sequence[int]) -> None:
        self._name = name
        self._leaders = list(leaders)
        self._asked = 0  # how often who leads
        self.logins: list[int] = []  # calls that wait for an answer
        super().__init__(self._answer_of)

    def _answer_of(self, path: str, body: bytes) -> tuple[list[bytes], int, str]:
        if path == messages.AUTHENTICATE:
            return [message(2, b"token")], OK, ""
        if path == messages.STATUS:
            self._asked += 1
            return [integer(4, self._leaders[min(self._asked, len(self._leaders)) - 1])], OK, ""
        return [self._name], OK, ""

    def _finish(self, stream: int) -> None:
        if self._paths[stream] == messages.AUTHENTICATE:
            self.logins.append(stream)
        else:
            super()._finish(stream)


def converse(calls: Calls, server: Server, chunk_bytes: int = 65_536) -> list[Answer | Ended]:
    """Carry bytes to and fro until nobody has anything to say."""
    found: list[Answer | Ended] = []
    while output := calls.take_output():
        reply = server.answer(output)
        for start in range(0, len(reply), chunk_bytes):
            found += calls.receive(reply[start : start + chunk_bytes])
    return found


@pytest.mark.parametrize("chunk_bytes", [1, 7, 65_536])
def test_a_call_has_its_answer_and_its_status(chunk_bytes: int) -> None:
    server = Server(lambda path, body: ([path.encode() + body], OK, ""))
    calls = Calls("localhost:1")
    call = calls.begin("/a/B", b"hello")
    assert converse(calls, server, chunk_bytes) == [Answer(call, b"/a/Bhello"), Ended(call, OK, "")]
    assert calls.is_idle


def test_an_error_has_its_words() -> None:
    server = Server(lambda path, body: ([], 14, "etcdserver%3A leader changed"))
    calls = Calls("localhost:1")
    call = calls.begin("/a/B", b"")
    assert converse(calls, server) == [Ended(call, 14, "etcdserver: leader changed")]


def test_a_request_larger_than_the_window_is_sent_as_it_is_taken() -> None:
    large = bytes(1_000_000)
    heard: list[int] = []

    def respond(path: str, body: bytes) -> tuple[list[bytes], int, str]:
        heard.append(len(body))
        return [], OK, ""

    calls = Calls("localhost:1")
    first, second = calls.begin("/a/B", large), calls.begin("/a/B", large)
    assert converse(calls, Server(respond)) == [Ended(first, OK, ""), Ended(second, OK, "")]
    assert heard == [len(large), len(large)]


@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.lists(st.integers(0, 60_000), max_size=3)), min_size=1, max_size=4),
    st.integers(1_000, 100_000),
    st.sampled_from([None, 0, 7, 255]),
    st.sampled_from([1_000, 16_000, 65_536]),
    st.integers(0, 2**32),
)
@settings(max_examples=examples(25), deadline=None)
def test_all_is_said_and_heard_whatever_the_windows(
    wanted: list[tuple[int, list[int]]], window_bytes: int, padding_bytes: int | None, chunk_bytes: int, seed: int
) -> None:
    random = Random(seed)
    heard: list[bytes] = []

    def respond(path: str, body: bytes) -> tuple[list[bytes], int, str]:
        heard.append(body)
        return answers[int(path)], OK, "x" * int(path)

    requests = [random.randbytes(size) for size, _ in wanted]
    answers = [[random.randbytes(size) for size in sizes] for _, sizes in wanted]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http2, "WINDOW_BYTES", 50_000)
        calls = Calls("localhost:1", token="t" * random.randrange(300))
        server = Server(respond, window_bytes, padding_bytes)
        assert converse(calls, server) == []  # both know each other's settings
        numbers = [calls.begin(str(place), request) for place, request in enumerate(requests)]
        events = converse(calls, server, chunk_bytes)
    assert sorted(heard) == sorted(requests)
    for number, expected, place in zip(numbers, answers, range(len(wanted)), strict=True):
        of_call = [event for event in events if event.call == number]
        assert of_call == [*(Answer(number, one) for one in expected), Ended(number, OK, "x" * place)]
    assert calls.is_idle


def settled(calls: Calls) -> Calls:
    """The same, after the other side's settings."""
    calls.receive(b"\0\0\0\4\0\0\0\0\0")
    return calls


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0\1\0\0\0\0\0\0a", "a frame of kind 0 in stream 0"),
        (b"\0\0\0\4\0\0\0\0\1", "a frame of kind 4 in stream 1"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "too long"),
        (b"\0\0\1\0\x08\0\0\0\1\1", "nothing but padding"),
        (b"\0\0\1\1\0\0\0\0\1\x88" + bytes(9), "headers do not go on"),
        (b"\0\0\1\x09\4\0\0\0\1\x88", "headers go on that have not begun"),
        (b"\0\0\1\1\4\0\0\0\1\xff", "cannot be decoded"),
        (b"\0\0\4\4\0\0\0\0\0abcd", "settings are cut off"),
        (b"\0\0\1\x08\0\0\0\0\0a", "too short"),
        (b"\0\0\4\5\0\0\0\0\1abcd", "a push"),
        (b"\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\x0b", "ends the connection .HTTP/2 error 11"),
    ],
)
def test_what_is_no_http_ends_the_connection(data: bytes, reason: str) -> None:
    calls = Calls("localhost:1")
    calls.begin("/a", b"")
    with pytest.raises(ConnectionFailed, match=reason):
        settled(calls).receive(data)


def test_who_does_not_begin_with_settings_speaks_no_http() -> None:
    with pytest.raises(ConnectionFailed, match="no HTTP/2"):
        Calls("localhost:1").receive(b"\0\0\x08\6\0\0\0\0\0pingpong")
    with pytest.raises(ConnectionFailed, match="closed"):
        Calls("localhost:1").receive(b"")


def test_a_ping_is_answered_and_a_reset_call_ends() -> None:
    calls = settled(Calls("localhost:1"))
    call = calls.begin("/a", b"")
    calls.take_output()
    assert calls.receive(b"\0\0\x08\6\0\0\0\0\0pingpong") == []
    assert calls.take_output() == b"\0\0\x08\6\1\0\0\0\0pingpong"
    (ended,) = calls.receive(b"\0\0\4\3\0\0\0\0" + bytes([call]) + b"\0\0\0\7")
    assert ended == Ended(call, UNAVAILABLE, "etcd has reset the call (HTTP/2 error 7)")
    assert calls.is_idle


def test_no_more_calls_are_made_than_the_other_side_takes() -> None:
    calls = Calls("localhost:1")
    calls.receive(b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\1")
    calls.begin("/a", b"")
    with pytest.raises(ConnectionFailed, match="too many streams"):
        calls.begin("/a", b"")


@given(st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=examples(150), deadline=None)
def test_damaged_bytes_end_the_connection_and_nothing_else(seed: int, count: int) -> None:
    random = Random(seed)
    calls = Calls("localhost:1")
    calls.begin("/a/B", bytes(100))
    said = bytearray(Server(lambda path, body: ([b"answer"], OK, "")).answer(calls.take_output()))
    for _ in range(count):
        said[random.randrange(len(said))] = random.randrange(256)
    with suppress(ConnectionFailed):
        calls.receive(bytes(said))


@pytest.mark.parametrize(
    ("number", "encoded"), [(0, b"\0"), (1, b"\1"), (300, b"\xac\2"), (-1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\1")]
)
def test_varints(number: int, encoded: bytes) -> None:
    assert encode_varint(number) == encoded
    fields: Fields = decode(integer(7, number))
    assert integer_of(fields, 7) == number


@pytest.mark.parametrize("damaged", [b"\x08", b"\x12\x05ab", b"\x0b", b"\xff" * 11, message(1, b"ab")[:-1]])
def test_what_is_no_message_is_refused(damaged: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(damaged)


def test_the_end_of_a_prefix() -> None:
    assert messages.prefix_end(b"a/") == b"a0"
    assert messages.prefix_end(b"a\xff") == b"b"


# --- a real etcd


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    if ETCD is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    member = one_member(tmp_path_factory.mktemp("etcd"))
    yield member
    member.kill()


class Client:
    """Calls over a socket, one at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.calls = Calls(f"127.0.0.1:{port}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, path: str, request: bytes) -> bytes:
        number = self.calls.begin(path, request)
        answers: list[bytes] = []
        while True:
            for event in self.next_events():
                if isinstance(event, Answer):
                    answers.append(event.message)
                elif event.call == number:
                    assert event.status == OK, event.explanation
                    return answers[0]

    def next_events(self) -> list[Answer | Ended]:
        self._socket.sendall(self.calls.take_output())
        events = self.calls.receive(self._socket.recv(65_536))
        self._socket.sendall(self.calls.take_output())
        return events


def test_keys_of_a_real_etcd(etcd: EtcdMember) -> None:
    with Client(etcd.client_port) as client:
        write = messages.transaction_request(
            [messages.compare(b"k/a", messages.Target.CREATE_REVISION, 0)],
            [messages.put(b"k/a", b"1"), messages.put(b"k/b", bytes(100_000))],
            [messages.get(b"k/a")],
        )
        first = messages.TransactionAnswer.read(client.call(messages.TRANSACTION, write))
        assert first.succeeded
        again = messages.TransactionAnswer.read(client.call(messages.TRANSACTION, write))
        assert not again.succeeded
        assert [entry.value for entry in again.ranges[0].entries] == [b"1"]
        found = client.call(messages.RANGE, messages.range_request(b"k/", messages.prefix_end(b"k/"), limit=1))
        answer = messages.RangeAnswer.read(found)
        assert (answer.count, answer.more, answer.entries[0].key) == (2, True, b"k/a")
        assert answer.entries[0].mod_revision == answer.entries[0].create_revision == first.revision
        gone = messages.transaction_request([], [messages.delete(b"k/", messages.prefix_end(b"k/"))])
        assert messages.TransactionAnswer.read(client.call(messages.TRANSACTION, gone)).succeeded
        assert messages.RangeAnswer.read(client.call(messages.RANGE, messages.range_request(b"k/a"))).count == 0


def test_a_key_goes_with_its_lease_and_a_watch_is_told(etcd: EtcdMember) -> None:
    with Client(etcd.client_port) as client:
        lease = messages.LeaseAnswer.read(client.call(messages.LEASE_GRANT, messages.lease_grant_request(60)))
        assert lease.ttl_s == 60
        watch = client.calls.begin(messages.WATCH, messages.watch_request(b"w"), is_last=False)
        renewing = client.calls.begin(messages.LEASE_KEEP_ALIVE, messages.lease_request(lease.lease), is_last=False)
        told: dict[int, list[bytes]] = {watch: [], renewing: []}
        while not (told[watch] and told[renewing]):
            for event in client.next_events():
                assert isinstance(event, Answer)
                told[event.call].append(event.message)
        assert messages.WatchAnswer.read(told[watch][0]).created
        assert messages.LeaseAnswer.read(told[renewing][0]) == lease
        client.calls.end(renewing)
        with Client(etcd.client_port) as other:
            put = messages.transaction_request([], [messages.put(b"w", b"1", lease.lease)])
            other.call(messages.TRANSACTION, put)
            other.call(messages.LEASE_REVOKE, messages.lease_revoke_request(lease.lease))
        events: list[tuple[bool, bytes]] = []
        while len(events) < 2:
            for event in client.next_events():
                assert isinstance(event, Answer)
                seen = messages.WatchAnswer.read(event.message).events
                events += [(one.is_delete, one.entry.value) for one in seen]
        assert events == [(False, b"1"), (True, b"")]


def test_members_and_their_state(etcd: EtcdMember) -> None:
    with Client(etcd.client_port) as client:
        members = messages.Member.read_all(client.call(messages.MEMBER_LIST, b""))
        assert [member.client_urls for member in members] == [[f"http://127.0.0.1:{etcd.client_port}"]]
        status = messages.StatusAnswer.read(client.call(messages.STATUS, b""))
        assert status.version.startswith("3.")
        assert status.leader == status.member_id == members[0].member_id
        some_key = messages.range_request(b"x")
        assert status.revision == messages.RangeAnswer.read(client.call(messages.RANGE, some_key)).revision
        assert 0 < status.database_used_bytes <= status.database_bytes
        assert messages.alarms_in(client.call(messages.ALARM, messages.alarm_request(messages.AlarmAction.LIST))) == []
