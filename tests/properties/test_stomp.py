"""STOMP's codec and conversation: frames come out as they went in, however they are cut, and nothing fails."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from amqp_broker.protocols.stomp.errors import StompError
from amqp_broker.protocols.stomp.frames import Frame, FrameSplitter, encode_frame
from tests.support.memory_broker import MemoryBroker
from tests.support.stomp_client import StompClient, frame_bytes

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
COMMANDS = st.sampled_from(["SEND", "MESSAGE", "ACK", "NOTHING"])
FRAMES = st.builds(
    Frame,
    COMMANDS,
    st.dictionaries(NAMES.filter(lambda name: name != "content-length"), NAMES, max_size=4),
    st.just(b""),
) | st.builds(Frame, st.just("SEND"), st.just({}), st.binary(max_size=40))


def parts_of(frame: Frame) -> tuple[str, dict[str, str], bytes]:
    headers = {name: value for name, value in frame.headers.items() if name != "content-length"}
    return frame.command, headers, frame.body


def split(data: bytes, size: int) -> list[tuple[str, dict[str, str], bytes] | str]:
    """The frames, and in the end the error, of a stream that comes in pieces of a size."""
    splitter = FrameSplitter(1_000)
    found: list[tuple[str, dict[str, str], bytes] | str] = []
    try:
        for start in range(0, len(data), size):
            found.extend(map(parts_of, splitter.split(data[start : start + size])))  # those before an error count
    except StompError as error:
        found.append(error.message)
    return found


@given(st.lists(FRAMES, max_size=5), st.integers(1, 50))
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: list[Frame], size: int) -> None:
    data = b"".join([encode_frame(frame.command, frame.headers, frame.body) for frame in frames])
    assert split(data, size) == [parts_of(frame) for frame in frames]


@given(st.binary(max_size=200) | st.text("SEND\n\r\0:\\ca1-", max_size=80).map(str.encode), st.integers(1, 20))
@example(b"SEND\ncontent-length:3\n\nab\0", 1)
@example(b"A\r\n\r\n\0\nB\n\n\0", 1)
def test_it_makes_no_difference_how_garbage_is_cut(data: bytes, size: int) -> None:
    whole, pieces = split(data, len(data) or 1), split(data, size)
    assert pieces == whole


DESTINATIONS = st.sampled_from(
    ["/queue/a", "/queue/b", "/topic/t", "/exchange/amq.fanout", "/amq/queue/a", "/exchange/none", "/what"]
)
REQUESTS = ["SEND", "SUBSCRIBE", "UNSUBSCRIBE", "ACK", "NACK", "BEGIN", "COMMIT", "ABORT", "DISCONNECT", "X"]
IDS = st.sampled_from(["0", "1"])
TRANSACTIONS = st.sampled_from(["t", "u"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    command = draw(st.sampled_from(REQUESTS))
    headers = {
        "destination": draw(DESTINATIONS),
        "id": draw(IDS),
        "ack": draw(st.sampled_from(["auto", "client", "client-individual"])),
        "prefetch-count": draw(st.sampled_from(["0", "1", "2"])),
    }
    if command in ("ACK", "NACK"):
        headers["id"] = f"T_{draw(IDS)}@@session@@{draw(st.integers(1, 8))}"
        headers["requeue"] = draw(st.sampled_from(["true", "false"]))
    if draw(st.booleans()):
        headers["receipt"] = "r"
    if command in ("BEGIN", "COMMIT", "ABORT") or (command in ("SEND", "ACK", "NACK") and draw(st.booleans())):
        headers["transaction"] = draw(TRANSACTIONS)
    if command == "SUBSCRIBE" and draw(st.booleans()):
        headers["durable"] = "true"
    if command == "SEND":
        headers["reply-to"] = draw(st.sampled_from(["/temp-queue/r", "/queue/b"]))
    return frame_bytes(command, b"body" if command == "SEND" else b"", **headers)


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.one_of(requests(), requests(), st.none(), st.binary(max_size=6))),
    min_size=1,
    max_size=30,
)


def connect(broker: MemoryBroker) -> StompClient:
    client = StompClient(broker)
    client.connect("1.2", heart_beat="10000,10000")
    return client


@given(STEPS)
def test_nothing_fails_and_nothing_is_left(steps: list[tuple[int, bytes | None]]) -> None:
    broker = MemoryBroker(stomp_port=0)
    clients = [connect(broker) for _ in range(3)]
    for number, step in steps:
        client = clients[number]
        if step is None or client.is_closed:
            client.drop()
            clients[number] = connect(broker)
        else:
            client.write(step)
        client.read()
        broker.advance(7)
    for client in clients:
        client.drop()
    assert len(broker.open_connections) == 0
    for queue in broker.virtual_host.queues.values():
        assert queue.unacknowledged_count == 0, queue
        assert len(queue.consumers) == 0, queue
    assert {name for name in broker.virtual_host.queues if not name.startswith("stomp-")} <= {"a", "b"}
