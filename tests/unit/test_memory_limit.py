"""How much memory there is: a container's limit counts, wherever its control groups say it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from amqp_broker.server.memory_limit import MemoryLimit, available_memory, machine_memory_bytes
from amqp_broker.server.resources import memory_limits_without_effect, with_memory_limits
from amqp_broker.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")

MIB = 1024 * 1024
V1_WITHOUT_LIMIT = "9223372036854771712"
V2 = "31 24 0:27 {root} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "36 32 0:31 {root} {point} rw,relatime shared:16 master:2 - cgroup cgroup rw,memory\n"
V1_OTHER = "37 32 0:32 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
FILES = {"proc/self/mountinfo": "24 1 0:21 / /sys rw - sysfs sysfs rw\n"}

Machine = Callable[[dict[str, str]], Path]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Makes a file system out of what its files say."""

    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def v2(root: str = "/", point: str = "/sys/fs/cgroup", group: str = "/") -> dict[str, str]:
    return {"proc/self/cgroup": f"0::{group}\n", "proc/self/mountinfo": V2.format(root=root, point=point)}


def v1(root: str = "/", point: str = "/sys/fs/cgroup/memory", group: str = "/") -> dict[str, str]:
    return {
        "proc/self/cgroup": f"5:cpu,cpuacct:{group}\n4:memory:{group}\n1:name=systemd:{group}\n",
        "proc/self/mountinfo": V1_OTHER + V1.format(root=root, point=point),
    }


@pytest.mark.parametrize(
    ("files", "limit_bytes", "set_by"),
    [
        # Docker with a name space of control groups of its own
        (v2() | {"sys/fs/cgroup/memory.max": "536870912\n"}, 512 * MIB, "the limit in /sys/fs/cgroup/memory.max"),
        (v2() | {"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.high": "1048576\n"}, MIB, "memory.high"),
        # systemd: the slice above is narrower than the service
        (
            v2(group="/system.slice/broker.service")
            | {
                "sys/fs/cgroup/system.slice/memory.max": "104857600\n",
                "sys/fs/cgroup/system.slice/broker.service/memory.max": "209715200\n",
            },
            100 * MIB,
            "/sys/fs/cgroup/system.slice/memory.max",
        ),
        # version 1
        (v1() | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n"}, 256 * MIB, "memory.limit_in_bytes"),
        # version 1 in Docker: the path is the machine's, of which only its own end is mounted
        (
            v1(root="/docker/abc", group="/docker/abc") | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n"},
            256 * MIB,
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ),
        (
            v1(root="/other", group="/docker/abc") | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n"},
            256 * MIB,
            "memory.limit_in_bytes",
        ),
        # both are there, as on a machine in between; a mount point with a space in its name
        (
            {
                "proc/self/cgroup": "4:memory:/a\n0::/b\n",
                "proc/self/mountinfo": V1.format(root="/", point="/with\\040space") + V2.format(root="/", point="/two"),
                "with space/a/memory.limit_in_bytes": V1_WITHOUT_LIMIT,
                "with space/memory.limit_in_bytes": "3145728",
                "two/b/memory.max": "2097152",
            },
            2 * MIB,
            "/two/b/memory.max",
        ),
    ],
)
def test_the_least_of_all_limits_counts(machine: Machine, files: dict[str, str], limit_bytes: int, set_by: str) -> None:
    limit = available_memory(machine(FILES | files))
    assert limit.size_bytes == limit_bytes
    assert limit.set_by.endswith(set_by)


@pytest.mark.parametrize(
    "files",
    [
        {},
        FILES,
        v2(),
        v2() | {"sys/fs/cgroup/memory.max": "max\n"},
        v1() | {"sys/fs/cgroup/memory/memory.limit_in_bytes": V1_WITHOUT_LIMIT},
        {
            "proc/self/cgroup": "nonsense\n4:memory\n",
            "proc/self/mountinfo": "nonsense - cgroup2\n - \n1 - cgroup2 a b\n",
        },
    ],
)
def test_without_a_limit_it_is_the_machine(machine: Machine, files: dict[str, str]) -> None:
    limit = available_memory(machine(files))
    assert limit == (machine_memory_bytes(), "the machine's memory")


def test_a_limit_above_the_machines_memory_is_none(machine: Machine) -> None:
    limit = available_memory(machine(v2() | {"sys/fs/cgroup/memory.max": str(2 * machine_memory_bytes())}))
    assert limit.set_by == "the machine's memory"


def test_the_broker_takes_its_share_of_it(machine: Machine) -> None:
    available = available_memory(machine(v2() | {"sys/fs/cgroup/memory.max": str(100 * MIB)}))
    settings = with_memory_limits(Settings(), available)
    assert (settings.memory_high_water_bytes, settings.memory_budget_bytes) == (60 * MIB, 40 * MIB)
    settings = with_memory_limits(Settings(memory_high_water_bytes=5, memory_budget_bytes=4), available)
    assert (settings.memory_high_water_bytes, settings.memory_budget_bytes) == (5, 4)


def test_messages_go_to_disk_before_publishers_are_held_back() -> None:
    limits = with_memory_limits(Settings(memory_high_water_bytes=300 * MIB), MemoryLimit(1000 * MIB, "the machine"))
    assert (limits.memory_high_water_bytes, limits.memory_budget_bytes) == (300 * MIB, 200 * MIB)


def test_limits_that_change_nothing_on_this_machine_are_named() -> None:
    memory = MemoryLimit(1000, "the control group's limit")
    assert memory_limits_without_effect(Settings(memory_high_water_bytes=900, memory_budget_bytes=1), memory) == []
    assert memory_limits_without_effect(Settings(memory_high_water_bytes=1001), memory) == [
        ("memory_high_water_bytes", "there are 1000 bytes (the control group's limit): publishers are never held back")
    ]
    assert memory_limits_without_effect(Settings(memory_budget_bytes=600), memory) == [
        ("memory_budget_bytes", "publishers are held back above 600 bytes already (memory_high_water_bytes)")
    ]
