"""``amqp-broker journal``: looking into a journal that no broker uses, and mending it. Works on the data folder.

Does not hold how it is done; that is ``journal/check.py``, ``journal/dump.py`` and ``journal/repair.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amqp_broker.cli import options
from amqp_broker.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from amqp_broker.journal.check import Report

    options.refuse_windows("journal")
    from amqp_broker.journal.real_files import RealFiles

DataFolderPath = Annotated[Path, typer.Argument(metavar="DIR", help="The data folder of a broker that does not run.")]
Bodies = Annotated[bool, typer.Option("--bodies", help="Print the messages' bodies as well.")]

application = typer.Typer(
    help="Look into the journal of a broker that does not run, and mend it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("check")
def check(folder: DataFolderPath) -> None:
    """Verify every checksum and say what the journal holds. Changes nothing.

    Exit code 0: a broker would start with it; 5: it is damaged.
    """
    from amqp_broker.journal.check import check as check_journal

    with _opened(folder) as files:
        report = check_journal(files)
    print(_summary(report))
    for damage in report.damages:
        print(f"damaged: {damage}")
    if not report.is_intact:
        options.fail(
            ExitCode.JOURNAL_DAMAGED,
            f"the journal in {folder} is damaged: 'amqp-broker journal repair {folder}' saves all that is still valid",
        )


@application.command("dump")
def dump(folder: DataFolderPath, bodies: Bodies = False) -> None:
    """Print the journal readably, a line for each record. Changes nothing."""
    from amqp_broker.journal.dump import dump as dump_journal

    with _opened(folder) as files:
        for line in dump_journal(files, lambda kind, payload: _described(kind, payload, bodies)):
            print(line)


@application.command("repair")
def repair(folder: DataFolderPath) -> None:
    """Keep every valid record of a damaged journal, put the damaged files aside, and say what is lost."""
    from amqp_broker.journal.repair import repair as repair_journal

    with _opened(folder) as files:
        report = repair_journal(files)
    if not report.damages:
        print("nothing is damaged, and nothing was changed")
        return
    for damage in report.damages:
        print(f"lost: {damage}")
    for kept in report.kept_aside:
        print(f"kept aside: {kept}")
    print(f"saved {report.saved_records} records of the damaged files; {report.lost_bytes} bytes are lost")


@contextmanager
def _opened(folder: Path) -> Iterator[RealFiles]:
    """The journal's files, held against any broker; a problem ends the command with one line."""
    options.refuse_windows("journal")

    from amqp_broker.journal.failures import JournalError
    from amqp_broker.journal.real_files import RealFiles
    from amqp_broker.server.data_folder import CannotUseDataFolder, DataFolder
    from amqp_broker.server.journal_folder import JOURNAL_FOLDER_NAME

    journal = folder / JOURNAL_FOLDER_NAME
    if not journal.is_dir():
        options.fail(ExitCode.CANNOT_USE_DATA_FOLDER, f"there is no journal in {folder}: name a broker's data folder")
    try:
        with DataFolder(folder):
            yield RealFiles(journal)
    except CannotUseDataFolder as error:
        options.fail(ExitCode.CANNOT_USE_DATA_FOLDER, str(error))
    except BrokenPipeError:  # whoever read our output has enough of it
        raise
    except OSError as error:
        options.fail(ExitCode.CANNOT_USE_DATA_FOLDER, f"{error.filename or journal}: {error.strerror}")
    except JournalError as error:
        options.fail(ExitCode.JOURNAL_DAMAGED, str(error))


def _summary(report: Report) -> str:
    lines = [
        f"{report.segments} segments, {report.disk_bytes} bytes on disk",
        f"{report.records} records: {report.live_records} live ({report.live_bytes} bytes), {report.dead_records} dead",
        f"{len(report.damages)} damaged places",
    ]
    if report.torn_tail is not None:
        lines.append(f"unfinished write at the end, which a start cuts off: {report.torn_tail}")
    return "\n".join(lines)


def _described(kind: int, payload: bytes, bodies: bool) -> str:
    """What a record means, in one line that holds no password hash."""
    from amqp_broker.broker.persistence.durability import RecordKind, decode_message, decode_returned
    from amqp_broker.wire.table import decode_table

    try:
        record_kind = RecordKind(kind)
        name = record_kind.name.lower()
        if record_kind in (RecordKind.MESSAGE, RecordKind.PAGED):
            kept = decode_message(payload)
            body = f" body {kept.body!r}" if bodies else f" body of {len(kept.body)} bytes"
            return f"{name} to {kept.address.exchange!r} key {kept.address.routing_key!r} in queues {kept.queues}{body}"
        if record_kind is RecordKind.RETURNED:
            return f"{name} {decode_returned(payload)}"
        table, _ = decode_table(payload, 0)
        table.pop("password_hash", None)
        return f"{name} {table}"
    except Exception as error:  # a dump goes on after what it cannot read
        return f"unreadable ({error})"
