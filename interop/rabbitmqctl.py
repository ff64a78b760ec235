"""A rabbitmqctl that stays: the commands of one node, one after the other, in one Erlang machine.

Each start of rabbitmqctl takes a second of a processor, and the suite has hundreds of commands. The code that runs is
RabbitMQ's own: rabbitmqctl.erl loads it, and calls it for each command. Not here: the node (brokers.py).
"""

from __future__ import annotations

import base64
import subprocess
import threading
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_SERVED_BY = Path(__file__).with_suffix(".erl")
_SERVE = """\
{{ok, Module, Binary}} = compile:file("{source}", [binary]),
{{module, Module}} = code:load_binary(Module, "{source}", Binary),
Module:serve()."""
_END = b"\0"


def unpack(program: Path, folder: Path) -> list[Path]:
    """Unpack what rabbitmqctl, an archive, is made of, with `rabbitmqctl.erl`; the folders that hold modules."""
    folder.mkdir()
    with zipfile.ZipFile(program) as archive:
        archive.extractall(folder)
    (folder / _SERVED_BY.name).write_bytes(_SERVED_BY.read_bytes())
    return [folder, *folder.glob("*/ebin")]


def erl_arguments(folder: Path, code_folders: Sequence[Path]) -> list[str]:
    """What `erl` is to be given, all as it sees paths: the folder and the folders of modules that `unpack` has made."""
    paths = [word for path in code_folders for word in ("-pa", str(path))]
    serve = _SERVE.format(source=folder / _SERVED_BY.stem)
    # The last word is the name of the program, by which rabbitmqctl knows which of RabbitMQ's tools it is.
    return ["-boot", "start_clean", "-noshell", "-hidden", *paths, "-eval", serve, "-extra", "rabbitmqctl"]


class KeptRabbitmqctl:
    """The process. It ends with the process that started it, whose end closes its input.

    Args:
        command: `erl` with `erl_arguments`.
        environment: the node's.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, arguments: Sequence[str], patience_s: float) -> str:
        """Run a command, and return what it printed.

        Raises:
            RuntimeError: it failed, with what it printed; or it did not end within `patience_s` seconds.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        words = [b":" + base64.b64encode(argument.encode()) for argument in arguments]
        watch = threading.Timer(patience_s, self.process.kill)
        watch.start()
        said = b""
        code = "none: it has ended"
        try:
            self.process.stdin.write(b" ".join(words) + b"\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                if line.startswith(_END):
                    code, said = line[1:].decode().strip(), said.removesuffix(b"\n")
                    break
                said += line
        except BrokenPipeError:
            pass
        finally:
            watch.cancel()
        text = said.decode(errors="replace")
        if code != "0":
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)} (exit code {code}): {text}")
        return text

    def end(self) -> None:
        """Kill it, which has nothing to lose."""
        self.process.kill()
        self.process.communicate()  # which closes the pipes
