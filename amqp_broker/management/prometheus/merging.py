"""The metrics of several brokers at one node, as those of one: what counts messages and the like is added, what is of
the process or its machine, or of the node that is asked, is there once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_OF_THE_PROCESS: Final = (  # in names of families
    "alarms_",
    "auth_attempts_",
    "build_info",
    "disk_space_",
    "erlang_",
    "identity_info",
    "loop_lag_",
    "node_info",
    "process_max_",
    "process_open_fds",
    "process_resident_",
    "resident_memory_",
)


def merged(texts: Iterable[str]) -> str:
    """One text of several, each in Prometheus' format; families and samples in the order in which they come first.

    What is there once is the first text's that has it.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, dict[str, str]] = {}
    for text in texts:
        family = ""
        seen: set[str] = set()
        for line in text.splitlines():
            if line.startswith("# "):
                family = line.split(" ", 3)[2]
                head = heads.setdefault(family, [])
                if line not in head:
                    head.append(line)
                continue
            name, _, value = line.rpartition(" ")
            found = samples.setdefault(family, {})
            if name not in found:
                found[name] = value
            elif name not in seen and not any(part in family for part in _OF_THE_PROCESS):
                found[name] = _sum(found[name], value)
            seen.add(name)
    lines = [line for family, head in heads.items() for line in (*head, *_lines(samples.get(family, {})))]
    return "".join(f"{line}\n" for line in lines)


def _lines(samples: dict[str, str]) -> list[str]:
    return [f"{name} {value}" for name, value in samples.items()]


def _sum(one: str, other: str) -> str:
    if one.isdecimal() and other.isdecimal():
        return str(int(one) + int(other))
    return str(float(one) + float(other))
