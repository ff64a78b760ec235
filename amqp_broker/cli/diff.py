"""``amqp-broker diff``: one script on two brokers, and the first thing that it saw differently."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amqp_broker.cli import options
from amqp_broker.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from amqp_broker.cli.recording.proxy import Recording

_DIFFERENT = 1
EPILOG = (
    "Exit codes: 0 the script saw the same; 1 it did not; 2 nothing was compared: a wrong command line, a broker that "
    "does not answer, a script that fails on both or opens no connection."
)

Url = Annotated[
    str, typer.Argument(metavar="AMQP_URL", help="amqp://user:password@host:port/vhost", show_default=False)
]

application = typer.Typer(add_completion=False, rich_markup_mode=None)


@application.command("diff", epilog=EPILOG)
def diff(
    first: Url,
    second: Url,
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="A Python program.", show_default=False)],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGUMENT]...", help="Its own arguments.", show_default=False)
    ] = None,
    python: Annotated[
        str, typer.Option("--python", metavar="PROGRAM", help="The Python to run it with. Default: this one.")
    ] = sys.executable,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="It is interrupted after so long.", min=0.1)
    ] = 60.0,
) -> None:
    """Run a script on two brokers and show the first thing that it saw differently.

    \b
    amqp-broker diff amqp://localhost:5672 amqp://localhost:5673 script.py

    The script need not be changed: wherever it lets pika connect, it is connected to the broker whose turn it is.
    AMQP_URL in its environment says the same, for other clients. It runs once on each broker, so neither should hold
    what an earlier run has left. What it does should not depend on chance: what it sends is compared as well.
    """
    if not script.is_file():
        options.fail(ExitCode.WRONG_USE, f"there is no script {script}")

    import trio

    recordings = [trio.run(_record, url, python, script, arguments or [], timeout) for url in (first, second)]
    raise typer.Exit(_report(*recordings))


async def _record(url: str, python: str, script: Path, arguments: list[str], timeout_s: float) -> Recording:
    from amqp_broker.cli.recording import proxy

    if not url.startswith("amqp://"):
        options.fail(ExitCode.WRONG_USE, f"{url} is not an amqp:// address")
    if not await proxy.is_reachable(url):
        options.fail(ExitCode.WRONG_USE, f"nothing answers at {url}")
    return await proxy.record(url, python, script, arguments, timeout_s)


def _report(first: Recording, second: Recording) -> int:
    """Print what was found; returns the exit code."""
    from amqp_broker.cli.recording import comparison

    names = comparison.broker_names(first, second)
    for name, recording in zip(names, (first, second), strict=True):
        print(name)
        print(f"    {comparison.summary(recording)}")
        if recording.exit_code:
            print("".join(f"    | {line}\n" for line in recording.output.splitlines()[-5:]), end="")
    difference = comparison.first_difference(first, second)
    if difference is None:
        reason = comparison.why_nothing_was_compared(first, second)
        if reason is not None:
            options.fail(ExitCode.WRONG_USE, f"nothing was compared: {reason}")
        print("the same")
        return int(ExitCode.OK)
    width = max(map(len, names))
    print(f"different: {difference.where}")
    for line in difference.context:
        print(f"  {'both':{width}}  {line}")
    print(f"  {names[0]:{width}}  {difference.first}")
    print(f"  {names[1]:{width}}  {difference.second}")
    return _DIFFERENT
