"""`python smoke.py compiled|pure`: an installed package is tried as its user would, with nothing of this repository.

The command says which build it is; a broker starts, passes persistent messages on with confirms and acknowledgements,
ends on SIGTERM, and starts again on the same data. The release job runs it on every wheel (docs/contributing.md, "A
release").
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = (sys.executable, "-P", "-m", "amqp_broker")  # -P: not the sources that may be in this folder
ADDRESS = re.compile(r"amqp://\S*?:(\d+)\b")


def main() -> int:
    """Try it; returns the exit code."""
    asked = sys.argv[1]
    version = subprocess.run([*COMMAND, "version"], capture_output=True, text=True, check=True).stdout.strip()
    build = "compiled" if version.endswith(" (compiled)") else "pure"
    if build != asked:
        print(f"amqp-broker {version}: this build is {build}, and {asked} was asked for", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            with served(Path(folder)) as address:
                bench = [*COMMAND, "bench", address, "--persistent", "--confirms", "100", "--seconds", "1", "--json"]
                bench += ["--queue", "smoke"]
                done = subprocess.run(bench, capture_output=True, text=True, timeout=60, check=True)
            figures = json.loads(done.stdout)
            if not figures["confirmed"] or figures["consumed"] < figures["confirmed"]:
                print(f"amqp-broker {version}: not all that was confirmed came: {json.dumps(figures)}", file=sys.stderr)
                return 1
        print(f"amqp-broker {version}, Python {sys.version.split()[0]}: {json.dumps(figures)}")
    return 0


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve from a folder; yields where. In the end the broker has to stop by itself and say that all went well."""
    command = [*COMMAND, "serve", "--port", "0", "--host", "127.0.0.1", "--data-dir", str(folder / "data")]
    with (folder / "log").open("wb") as log:
        broker = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield f"amqp://127.0.0.1:{_port(broker, folder / 'log')}"
        broker.terminate()
        if code := broker.wait(timeout=30):
            raise RuntimeError(f"the broker ended with exit code {code}:\n{(folder / 'log').read_text()}")
    finally:
        broker.kill()
        broker.wait()


def _port(broker: subprocess.Popen[bytes], log: Path) -> str:
    while broker.poll() is None:
        if found := ADDRESS.search(log.read_text()):
            return found.group(1)
        try:
            broker.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
    raise RuntimeError(f"the broker did not start:\n{log.read_text()}")


if __name__ == "__main__":
    sys.exit(main())
