"""``amqp-broker journal``: looking into a data folder's journal, whether a broker uses it or not, and repairing it.

Does not hold how it is done; that is ``journal/check.py``, ``journal/dump.py`` and ``journal/repair.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqp_broker.cli import options
from amqp_broker.cli.control import counted
from amqp_broker.cli.exit_codes import EPILOG, ExitCode
from amqp_broker.explanations import system_reason

if TYPE_CHECKING:
    from amqp_broker.journal.check import Damage, Report
    from amqp_broker.journal.dump import DumpedDrops, DumpedRecord
    from amqp_broker.journal.repair import RepairReport
    from amqp_broker.journal.snapshot import Snapshot

# Where it was before --data-dir, which all other commands have; still taken.
DataFolderPath = Annotated[Path | None, typer.Argument(metavar="[FOLDER]", hidden=True)]
Bodies = Annotated[bool, typer.Option("--bodies", help="Print the messages' bodies as well.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be saved and lost.")]

application = typer.Typer(
    help="Look into the journal in a data folder, and repair it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("check", epilog=EPILOG)
def check(
    given: DataFolderPath = None,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Verify every checksum, say what the journal holds, and whether a broker would start with it. Changes nothing.

    A broker may run: what is checked then is what it had written when the command began.

    Exit code 0: a broker would start; 5: the journal is damaged; 9: it holds what this release does not know.

    \b
    amqp-broker journal check
    amqp-broker journal check --data-dir /var/lib/amqp-broker --json
    """
    from amqp_broker.journal.check import check as check_journal
    from amqp_broker.journal.failures import FormatNotSupported
    from amqp_broker.server.journal_folder import WAY_OUT_OF_OTHER_RELEASE, try_start

    folder = _folder(given, data_dir, config)
    with _looked_at(folder) as (files, holder):
        report = check_journal(files)
        problem = ""
        if report.is_intact:
            try:
                try_start(files)
            except FormatNotSupported as error:
                problem = f"{error}: {WAY_OUT_OF_OTHER_RELEASE}"
    if as_json:
        print(json.dumps({**asdict(report), "is_intact": report.is_intact, "problem": problem, "used_by": holder}))
    else:
        print(_summary(report, holder))
    if not report.is_intact:
        options.fail(
            ExitCode.JOURNAL_DAMAGED,
            f"the journal in {folder} is damaged: 'amqp-broker journal repair --data-dir {folder}' saves all that is "
            "still valid",
        )
    if problem:
        options.fail(ExitCode.NOT_SUPPORTED, problem)


@application.command("dump", epilog=EPILOG)
def dump(
    given: DataFolderPath = None,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
    bodies: Bodies = False,
    as_json: AsJson = False,
) -> None:
    """Print the journal readably, a line for each record. Changes nothing, and a broker may run.

    With --json each line is an object.

    \b
    amqp-broker journal dump | grep orders
    amqp-broker journal dump --data-dir /var/lib/amqp-broker --json
    """
    from amqp_broker.journal.check import Inspection
    from amqp_broker.journal.dump import dump as dump_journal
    from amqp_broker.journal.dump import entries

    with _looked_at(_folder(given, data_dir, config)) as (files, _):
        if as_json:
            for entry in entries(Inspection(files)):
                print(json.dumps(_entry_as_json(entry, bodies)))
        else:
            for line in dump_journal(files, lambda kind, payload: _described(kind, payload, bodies)):
                print(line)


@application.command("repair", epilog=EPILOG)
def repair(
    given: DataFolderPath = None,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Keep every valid record of a damaged journal, put the damaged files aside, and say what is lost.

    No broker may run with this data folder, but for --dry-run, which changes nothing.

    \b
    amqp-broker journal repair --dry-run
    amqp-broker journal repair --data-dir /var/lib/amqp-broker
    """
    from amqp_broker.journal.real_files import RealFiles
    from amqp_broker.journal.repair import repair as repair_journal
    from amqp_broker.server.data_folder import DataFolder
    from amqp_broker.server.journal_folder import JOURNAL_FOLDER_NAME

    folder = _folder(given, data_dir, config)
    if dry_run:
        with _looked_at(folder) as (files, _):
            report = repair_journal(files, is_dry_run=True)
    else:
        with _failures_told(folder), DataFolder(folder):
            report = repair_journal(RealFiles(folder / JOURNAL_FOLDER_NAME))
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        print(_repair_summary(report, dry_run))


def _folder(given: Path | None, data_dir: str | None, config: Path | None) -> Path:
    """The data folder: as it was given, or as every command finds it."""
    if given is not None and data_dir is not None:
        options.fail(ExitCode.WRONG_USE, "the data folder was given twice: leave --data-dir or the other out")
    if given is not None:
        return given
    return Path(options.configure(None, None, data_dir, config, None, None).settings.data_dir)


@contextmanager
def _looked_at(folder: Path) -> Iterator[tuple[Snapshot, str]]:
    """The journal's files as they are now, and which process uses them, "" for none."""
    from amqp_broker.journal.snapshot import Snapshot
    from amqp_broker.server.data_folder import holder_of
    from amqp_broker.server.journal_folder import JOURNAL_FOLDER_NAME

    with _failures_told(folder):
        yield Snapshot(folder / JOURNAL_FOLDER_NAME), holder_of(folder)


@contextmanager
def _failures_told(folder: Path) -> Iterator[None]:
    """A problem with a data folder ends the command with one line."""
    options.refuse_windows("journal")

    from amqp_broker.journal.failures import FormatNotSupported, JournalError
    from amqp_broker.server.data_folder import CannotUseDataFolder, whose
    from amqp_broker.server.journal_folder import JOURNAL_FOLDER_NAME, WAY_OUT_OF_OTHER_RELEASE

    journal = folder / JOURNAL_FOLDER_NAME
    try:
        if not _is_folder(journal):
            text = f"there is no journal in {folder}: name a broker's data folder"
            options.fail(ExitCode.CANNOT_USE_DATA_FOLDER, text)
        yield
    except CannotUseDataFolder as error:
        options.fail(ExitCode.CANNOT_USE_DATA_FOLDER, str(error))
    except BrokenPipeError:  # whoever read our output has enough of it
        raise
    except OSError as error:
        place = Path(error.filename or journal)
        owner = whose(place) if isinstance(error, PermissionError) else ""
        way_out = f": {owner}" if owner else ""
        options.fail(ExitCode.CANNOT_USE_DATA_FOLDER, f"{place}: {system_reason(error)}{way_out}")
    except FormatNotSupported as error:
        options.fail(ExitCode.NOT_SUPPORTED, f"{error}: {WAY_OUT_OF_OTHER_RELEASE}")
    except JournalError as error:
        options.fail(ExitCode.JOURNAL_DAMAGED, str(error))


def _is_folder(path: Path) -> bool:
    """Whether there is such a folder. (``Path.is_dir`` says no where it may not look, from Python 3.14 on.)

    Raises:
        OSError: that cannot be found out.
    """
    try:
        return S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _summary(report: Report, holder: str) -> str:
    lines = [
        f"{counted(report.segments, 'segment')}, {counted(report.disk_bytes, 'byte')} on disk",
        f"{counted(report.records, 'record')}: {report.live_records} live "
        f"({counted(report.live_bytes, 'byte')}), {report.dead_records} dead",
        counted(len(report.damages), "damaged place"),
    ]
    if holder:
        lines.append(f"in use by process {holder}: this is what it had written when the check began")
    if report.torn_tail is not None:
        lines.append(f"unfinished write at the end, which a start cuts off: {report.torn_tail}")
    return "\n".join([*lines, *(f"damaged: {damage}" for damage in report.damages)])


def _repair_summary(report: RepairReport, is_dry_run: bool) -> str:
    if not report.damages:
        return "nothing is damaged, and nothing was changed"
    would = "would be " if is_dry_run else ""
    were = would or ("was " if report.saved_records == 1 else "were ")
    counts = f"{counted(report.saved_records, 'record')} of the damaged files {were}saved"
    return "\n".join(
        [
            *(f"{would}lost: {damage}" for damage in report.damages),
            *(f"kept aside: {name}" for name in report.kept_aside),
            f"{counts}; {report.lost_bytes} bytes {would or 'are '}lost",
        ]
    )


def _entry_as_json(entry: DumpedRecord | DumpedDrops | Damage, bodies: bool) -> dict[str, Any]:
    from amqp_broker.journal.check import Damage
    from amqp_broker.journal.dump import DumpedDrops

    place = {"file": entry.file, "offset": entry.offset}
    if isinstance(entry, Damage):
        return {**place, "damaged_bytes": entry.size_bytes, "reason": entry.reason}
    if isinstance(entry, DumpedDrops):
        return {**place, "drops": [[first, first + count - 1] for first, count in entry.runs]}
    record = entry.record
    return {
        **place,
        "reference": record.reference,
        "kind": record.kind,
        "size_bytes": len(record.payload),
        "claims": record.claims,
        "live_claims": len(entry.live_claims),
        "meaning": _described(record.kind, record.payload, bodies),
    }


def _described(kind: int, payload: bytes, bodies: bool) -> str:
    """What a record means, in one line that holds no password hash."""
    from amqp_broker.broker.persistence.definitions import decode_together
    from amqp_broker.broker.persistence.kinds import RecordKind
    from amqp_broker.broker.persistence.message_records import (
        decode_held,
        decode_message,
        decode_of_exchange,
        decode_returned,
    )
    from amqp_broker.wire.table import RECORD_DEPTH, decode_table

    try:
        record_kind = RecordKind(kind)
    except ValueError:
        return "a kind of record that this release does not know"
    name = record_kind.name.lower()
    try:
        if record_kind in (RecordKind.MESSAGE, RecordKind.PAGED, RecordKind.STREAM_BLOCK):
            kept = decode_message(payload)
            body = f" body {kept.body!r}" if bodies else f" body of {len(kept.body)} bytes"
            return f"{name} to {kept.address.exchange!r} key {kept.address.routing_key!r} in queues {kept.queues}{body}"
        if record_kind is RecordKind.DELAYED:
            kept = decode_message(payload)
            holder, due_wall_ms, _ = decode_held(payload)
            body = f" body {kept.body!r}" if bodies else f" body of {len(kept.body)} bytes"
            address = f"{kept.address.exchange!r} key {kept.address.routing_key!r}"
            return f"{name} to {address} held by {holder} until {due_wall_ms}{body}"
        if record_kind is RecordKind.RETURNED:
            message_reference, times, header = decode_returned(payload)
            said = " with another content header" if header else ""
            return f"{name} {(message_reference, times)}{said}"
        if record_kind is RecordKind.EXCHANGE_STATE:
            exchange, value = decode_of_exchange(payload)
            return f"{name} of {exchange}: {value.hex()}"
        if record_kind is RecordKind.DEFINITIONS:
            each = [f"{RecordKind(one).name.lower()} {fields}" for one, fields in decode_together(payload)]
            return f"{name}: {', '.join(each)}"
        table, _ = decode_table(payload, 0, RECORD_DEPTH)
        table.pop("password_hash", None)
        return f"{name} {table}"
    except Exception as error:  # a dump goes on after what it cannot read
        return f"{name}, unreadable ({error})"
