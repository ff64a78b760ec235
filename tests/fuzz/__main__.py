"""``python -m tests.fuzz TARGET [--seconds N] [--corpus FOLDER]``: let atheris look for inputs that a target fails on.

An input that fails, takes longer than TIMEOUT_S, or makes the process allocate more than it may, is kept in ``found/``,
and the exit code is not 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

FOUND = Path(__file__).parent / "found"
TIMEOUT_S = 5
MEMORY_MIB_MAX = 1024  # of the process, instrumentation included
ALLOCATION_MIB_MAX = 64  # at once
INPUT_BYTES_MAX = 4096


def main() -> None:
    """Read the command line and fuzz."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: python -m pip install atheris (Linux and macOS, CPython 3.11 to 3.13)")
    with atheris.instrument_imports(include=["amqp_broker"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS, seeds
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="how long to look")
    parser.add_argument("--corpus", type=Path, help="folder that keeps what reached something new, for the next time")
    options = parser.parse_args()
    FOUND.mkdir(exist_ok=True)
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus.mkdir(exist_ok=True, parents=True)
    for number, seed in enumerate(seeds(options.target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={options.seconds}",
            f"-max_len={INPUT_BYTES_MAX}",
            f"-timeout={TIMEOUT_S}",
            f"-rss_limit_mb={MEMORY_MIB_MAX}",
            f"-malloc_limit_mb={ALLOCATION_MIB_MAX}",
            f"-artifact_prefix={FOUND}/{options.target}-",
            "-print_final_stats=1",
            str(corpus),
        ],
        TARGETS[options.target],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
