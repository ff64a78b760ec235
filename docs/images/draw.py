"""The drawings of README and docs, as SVG that follows the theme of the reader: ``python docs/images/draw.py``.

Holds what is drawn and the few shapes that it is drawn with. The rates come from ``docs/benchmarks.json`` by way of the
table below, the failing test from a run of pytest (its text is checked by tests/testing/test_documentation.py).
"""

from __future__ import annotations

from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent
STYLE = """
text{font:14px system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif;fill:#1f2328}
.small{font-size:12px;fill:#59636e}.title{font-weight:600}.middle{text-anchor:middle}.end{text-anchor:end}
.box{fill:#f6f8fa;stroke:#d1d9e0}.strong{fill:#ddf4ff;stroke:#54aeff}.line{stroke:#59636e;fill:none;stroke-width:1.5}
.head{fill:#59636e}.ours{fill:#1a7f37}.ours2{fill:#4ac26b}.theirs{fill:#9a6700}.theirs2{fill:#d4a72c}
.code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.screen{fill:#f6f8fa;stroke:#d1d9e0}.red{fill:#cf222e}.blue{fill:#0550ae}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.box{fill:#161b22;stroke:#3d444d}
.strong{fill:#0c2d4a;stroke:#1f6feb}.line{stroke:#9198a1}.head{fill:#9198a1}.ours{fill:#3fb950}.ours2{fill:#aff5b4}.theirs{fill:#d29922}.theirs2{fill:#f2cc60}
.screen{fill:#161b22;stroke:#3d444d}.red{fill:#ff7b72}.blue{fill:#79c0ff}}
""".replace("\n", "")

# Messages a second of README's chart: plain, compiled, RabbitMQ 3.10.8, 4.0.5 (docs/benchmarks.md, 2026-11-30).
RATES = (
    ("published, 12 bytes", 156_409, 548_899, 62_327, 45_151),
    ("published and confirmed, 1 KiB", 125_684, 270_100, 26_708, 19_441),
    ("persistent, confirmed, 1 KiB", 32_267, 45_078, 8_677, 18_356),
    ("end to end, acknowledged, 1 KiB", 51_096, 145_928, 16_663, 12_061),
    ("persistent, no confirms, 1 MiB", 357, 412, 582, 717),
)

LAYERS = (
    ("cli/   testing/", "the command line; the broker inside a test"),
    ("server/", "a broker on the network: driver, timers, journal flusher"),
    ("network/", "trio: listeners, TLS, the socket pump"),
    ("protocols/", "AMQP 0-9-1: bytes in, bytes out"),
    ("session/", "what every client's conversation needs"),
    ("broker/", "virtual hosts, exchanges, queues, dead-lettering"),
    ("access/   journal/", "users and permissions; the append-only journal"),
    ("wire/", "frames, fields, tables, content"),
)
WITHOUT_SOCKETS = 3  # the layers from here down have no socket, no clock and no file of their own

FAILURE = """    def test_an_unpaid_order_is_cancelled_after_half_an_hour(amqp_broker, amqp_url):
        ...
        amqp_broker.clock.advance(minutes=30)
>       assert amqp_broker.queue("cancel").bodies == [b"order 7"]
E       AssertionError: assert [] == [b'order 7']

test_orders.py:12: AssertionError
------------------------------- AMQP broker -------------------------------
  queues:
    cancel: 0 ready, 0 unacknowledged, consumers: none
    unpaid: 0 ready, 0 unacknowledged, consumers: none (x-message-ttl=1800000, ...)
  connections: none
  messages:
    b'order 7': to '' with 'unpaid' -> unpaid
    b'order 7': expired in unpaid, to '' with 'cancelled'
                -> nowhere (there is no queue 'cancelled')"""


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Words, their baseline at a point."""
    marked = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{marked} xml:space="preserve">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str = "box", radius: float = 6) -> str:
    """A rectangle with round corners."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" class="{kind}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight arrow."""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="line" marker-end="url(#head)"/>'


def drawing(title: str, width: int, height: int, parts: list[str]) -> str:
    """The whole file."""
    marker = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" class="head"/></marker></defs>'
    )
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title><style>{STYLE}</style>{marker}", *parts, "</svg>"]) + "\n"


def layers() -> str:
    """The layers, the upper ones using the lower ones."""
    row, parts = 40, [text(20, 28, "Imports go down only", "small")]
    for number, (name, what) in enumerate(LAYERS):
        top = 42 + number * row
        parts += [
            box(20, top, 640, row - 8, "strong" if number >= WITHOUT_SOCKETS else "box"),
            text(36, top + 21, name, "code"),
            text(220, top + 21, what),
        ]
    top, bottom = 42 + WITHOUT_SOCKETS * row, 42 + len(LAYERS) * row - 8
    parts += [
        f'<path d="M672 {top} h10 V{bottom} h-10" class="line"/>',
        text(692, (top + bottom) / 2 - 16, "synchronous,"),
        text(692, (top + bottom) / 2 + 4, "no socket, no clock:"),
        text(692, (top + bottom) / 2 + 24, "driven in memory by tests"),
    ]
    return drawing("The layers of amqp-broker", 880, 42 + len(LAYERS) * row + 8, parts)


def message() -> str:
    """What happens to a message between publisher and consumer."""
    steps = (
        ("publisher", "basic.publish"),
        ("protocol", "frames, channel"),
        ("exchange", "route, by its type"),
        ("queue", "waits, expires"),
        ("protocol", "basic.deliver"),
        ("consumer", "basic.ack"),
    )
    width, parts = 128, []
    for number, (name, what) in enumerate(steps):
        x = 12 + number * (width + 20)
        parts += [
            box(x, 20, width, 56, "box" if number in (0, len(steps) - 1) else "strong"),
            text(x + width / 2, 44, name, "middle title"),
            text(x + width / 2, 64, what, "middle small"),
        ]
        if number:
            parts.append(arrow(x - 20, 48, x - 2, 48))
    queue, journal = 12 + 3 * (width + 20), 124
    parts += [
        box(queue - 70, journal, width + 140, 48, "strong"),
        text(queue + width / 2, journal + 20, "journal", "middle title"),
        text(queue + width / 2, journal + 38, "persistent messages, synced in batches", "middle small"),
        arrow(queue + width / 2, 76, queue + width / 2, journal - 2),
        f'<path d="M{queue - 70} {journal + 24} H76 V78" class="line" marker-end="url(#head)"/>',
        text(90, journal + 16, "confirm, after the sync", "small"),
    ]
    return drawing("The way of a message", 24 + 6 * width + 5 * 20, 190, parts)


def rates() -> str:
    """Rates beside RabbitMQ's, each group on its own scale."""
    title = "Messages a second: RabbitMQ 3.10.8 and 4.0.5, amqp-broker, and the same with compiled layers"
    left, space, parts = 260, 430, [text(20, 26, title, "title")]
    for number, (name, plain, compiled, older, newer) in enumerate(RATES):
        top, most = 46 + number * 83, max(plain, compiled, older, newer)
        parts.append(text(left - 14, top + 38, name, "end"))
        for line, (value, kind, words) in enumerate(
            (
                (older, "theirs", "RabbitMQ 3.10"),
                (newer, "theirs2", "RabbitMQ 4.0"),
                (plain, "ours", "plain Python"),
                (compiled, "ours2", "compiled"),
            )
        ):
            y, length = top + line * 17, max(2.0, value / most * space)
            parts += [
                box(left, y, length, 13, kind, 2),
                text(left + length + 6, y + 11, f"{value:,}  {words}", "small"),
            ]
    foot = 46 + len(RATES) * 83 + 10
    note = "Each group has a scale of its own. Two cores shared with the load, medians of three rounds."
    parts.append(text(20, foot, note, "small"))
    return drawing("Messages a second beside RabbitMQ", 860, foot + 14, parts)


def failure() -> str:
    """A failing test as pytest shows it."""
    parts, lines = [], FAILURE.splitlines()
    height = 24 + 18 * len(lines)
    parts.append(box(0.5, 0.5, 719, height - 1, "screen", 8))
    for number, line in enumerate(lines):
        kind = "code red" if line[:1] in "E>" and line else "code blue" if "AMQP broker -" in line else "code"
        kind = "code red" if "nowhere" in line else kind
        parts.append(text(18, 26 + 18 * number, line, kind))
    return drawing("A failing test shows where each message went, and why", 720, height, parts)


if __name__ == "__main__":
    for draw in (layers, message, rates, failure):
        (FOLDER / f"{draw.__name__}.svg").write_text(draw(), encoding="utf-8")
