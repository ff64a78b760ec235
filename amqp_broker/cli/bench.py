"""``amqp-broker bench``: a load on any AMQP broker, and how it bears it."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from amqp_broker.cli import control, options
from amqp_broker.cli.exit_codes import EPILOG, ExitCode

if TYPE_CHECKING:
    from amqp_broker.cli.load.crew import Crew
    from amqp_broker.cli.load.plan import Plan
    from amqp_broker.cli.load.report import Picture

DRAIN_S = 2.0  # at the end consumers go on until nothing has come for so long
LOOK_EVERY_S = 0.1

application = typer.Typer(add_completion=False, rich_markup_mode=None)


@application.command(epilog=EPILOG)
def bench(
    address: Annotated[
        str, typer.Argument(metavar="[ADDRESS]", help="The broker: amqp://USER:PASSWORD@HOST:PORT/VHOST.")
    ] = "amqp://localhost",
    publishers: Annotated[int, typer.Option(min=0, max=1000, help="How many publish.")] = 1,
    consumers: Annotated[int, typer.Option(min=0, max=1000, help="How many consume.")] = 1,
    size: Annotated[int, typer.Option(metavar="BYTES", min=8, max=16_777_216, help="Of each message.")] = 100,
    rate: Annotated[
        float, typer.Option(metavar="NUMBER", min=0, help="Messages a second of each publisher; 0 for no limit.")
    ] = 0,
    confirms: Annotated[
        int, typer.Option(metavar="NUMBER", min=0, help="Most unconfirmed messages of each publisher; 0: no confirms.")
    ] = 0,
    persistent: Annotated[bool, typer.Option("--persistent", help="Persistent messages in a durable queue.")] = False,
    queue_type: Annotated[
        str, typer.Option(metavar="TYPE", help="classic, quorum, or another that is there.")
    ] = "classic",
    queue: Annotated[
        str | None, typer.Option(metavar="NAME", help="This queue, which stays. Default: one that is deleted.")
    ] = None,
    prefetch: Annotated[int, typer.Option(metavar="NUMBER", min=0, max=65_535, help="Of each consumer.")] = 200,
    auto_ack: Annotated[bool, typer.Option("--auto-ack", help="Consumers do not acknowledge.")] = False,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How long.")] = 10,
    as_json: control.Json = False,
) -> None:
    """Publish to a queue and consume it, and print rates and latencies every second and at the end.

    It takes any broker that speaks AMQP 0-9-1, ours and RabbitMQ alike. Consumers acknowledge all that one read has
    brought. The latency is from just before a message is sent until it is read from the consumer's socket.

    \b
    amqp-broker bench
    amqp-broker bench amqp://me:secret@localhost --persistent --confirms 100
    amqp-broker bench --publishers 4 --consumers 4 --size 1000 --rate 500 --json
    """
    from amqp_broker.cli.load.address import BadAddress, parse_address
    from amqp_broker.cli.load.link import BrokerRefused
    from amqp_broker.cli.load.plan import Plan
    from amqp_broker.cli.load.report import summary, summary_lines

    if not publishers and not consumers:
        options.fail(ExitCode.WRONG_USE, "there is nothing to do without publishers and consumers")
    try:
        plan = Plan(
            parse_address(address),
            queue or f"amqp-broker-bench-{os.getpid()}",
            queue_type,
            publishers,
            consumers,
            size,
            rate,
            confirms,
            persistent,
            prefetch,
            auto_ack,
        )
        end, published_for_s = _run(plan, seconds, is_quiet=as_json, is_kept=queue is not None)
    except BadAddress as error:
        options.fail(ExitCode.WRONG_USE, str(error))
    except BrokerRefused as error:
        options.fail(ExitCode.REFUSED, str(error))
    said = summary(end, published_for_s)
    print(json.dumps(said) if as_json else "\n".join(["", *summary_lines(said)]))


def _run(plan: Plan, seconds: float, *, is_quiet: bool, is_kept: bool) -> tuple[Picture, float]:
    """Put the load on; returns how far it came, and how long was published."""
    from amqp_broker.cli.load.crew import Crew
    from amqp_broker.cli.load.link import Link

    link = Link(plan.address)
    link.declare(plan.queue, durable=plan.is_durable, arguments=plan.arguments)
    crews: list[Crew] = []
    try:
        crews = [Crew(plan, is_publishing=True), Crew(plan, is_publishing=False)]
        for crew in crews:
            crew.await_ready()
        for crew in reversed(crews):
            crew.begin()
        return _watch(plan, crews, seconds, is_quiet=is_quiet)
    finally:
        for crew in crews:
            crew.end()
        if not is_kept:
            link.delete(plan.queue)
        link.close()


def _watch(plan: Plan, crews: list[Crew], seconds: float, *, is_quiet: bool) -> tuple[Picture, float]:
    from amqp_broker.cli.load.report import Picture, line

    publishing, consuming = crews
    begun_s = time.monotonic()

    def picture() -> Picture:
        return Picture.of(time.monotonic() - begun_s, publishing.figures, consuming.figures)

    before = picture()
    try:
        while before.at_s < seconds:
            time.sleep(max(0.0, min(1.0, seconds - before.at_s)))
            for crew in crews:
                crew.check()
            now = picture()
            if not is_quiet:
                print(line(now, before, confirms=plan.unconfirmed_max > 0), flush=True)
            before = now
    except KeyboardInterrupt:
        pass
    published_for_s = time.monotonic() - begun_s
    publishing.end()
    now, last, last_s = picture(), -1, 0.0
    while plan.consumers and now.consumed < now.published:
        if now.consumed != last:
            last, last_s = now.consumed, now.at_s
        elif now.at_s > last_s + DRAIN_S:
            break  # somebody else has the rest
        time.sleep(LOOK_EVERY_S)
        now = picture()
    return now, published_for_s
