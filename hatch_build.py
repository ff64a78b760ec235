"""The build's switch: ``AMQP_BROKER_COMPILE=1`` makes a wheel whose typed floors are compiled with mypyc.

Without it nothing here does anything: the wheel is pure Python, and neither a compiler nor mypy is needed. With it the
same sources are in the wheel, and beside those of the floors below stands what the C compiler has made of them, which
the interpreter then takes. mypy and setuptools are asked for only then, for the build alone.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWITCH = "AMQP_BROKER_COMPILE"
PACKAGE = "amqp_broker"
FLOORS = ("wire", "journal", "broker", "session", "protocols")
LEFT_AS_THEY_ARE = (
    "wire/table.py",  # its integers that know their width derive from int, which a compiled class cannot
    "protocols/amqp10/typed.py",  # the same
    "wire/methods.py",  # pamqp's classes all through, and not once a message
)
# What mypyc needs to see of the dependencies to know their types stands here as well.
BUILD_REQUIRES = ("mypy>=2.0,<3", "setuptools>=68", "pamqp>=4.0,<5", "sortedcontainers-stubs>=2.4")


class CompiledFloors(BuildHookInterface[Any]):
    """Compiles the floors into the wheel when the switch is on."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What the build needs beside hatchling."""
        return list(BUILD_REQUIRES) if self._is_asked else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and add what came of it to the wheel."""
        if not self._is_asked:
            return
        if version == "editable":
            self.app.abort(
                f"{SWITCH} is set: an editable install runs the sources as they are; unset it, or build a wheel"
            )
        self._check_compiler()
        self._folder = TemporaryDirectory(prefix="amqp-broker-mypyc-")
        for library in compile_floors(Path(self.root), Path(self._folder.name)):
            build_data["force_include"][str(library)] = str(library.relative_to(Path(self._folder.name) / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written."""
        if self._is_asked:
            self._folder.cleanup()

    @property
    def _is_asked(self) -> bool:
        return os.environ.get(SWITCH, "") not in ("", "0")

    def _check_compiler(self) -> None:
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
        if shutil.which(compiler) is None:
            self.app.abort(
                f"{SWITCH} is set, and the C compiler '{compiler}' is not installed (Debian: apt install gcc "
                "python3-dev); name another one with CC, or unset the switch: the pure Python wheel needs none"
            )
        headers = Path(sysconfig.get_path("include"))
        if not (headers / "Python.h").exists():
            self.app.abort(
                f"{SWITCH} is set, and {headers} has no Python.h: install Python's development files "
                "(Debian: apt install python3-dev), or unset the switch"
            )


def compile_floors(root: Path, folder: Path) -> list[Path]:
    """Compile the floors of the sources at ``root``; returns the libraries, all below ``folder / "lib"``.

    Each module becomes a C file of its own: in a single one of a million lines the optimizer took twice the time.
    """
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    class OnAllCores(build_ext):
        """The C files of a library, as many at a time as there are cores."""

        def build_extensions(self) -> None:
            compile_some = self.compiler.compile

            def compile_all(sources: list[str], **options: Any) -> list[str]:
                with ThreadPoolExecutor(os.cpu_count()) as threads:
                    objects = threads.map(lambda source: compile_some([source], **options), sources)
                    return [path for paths in objects for path in paths]

            self.compiler.compile = compile_all
            super().build_extensions()

    sources = folder / "sources"
    shutil.copytree(root / PACKAGE, sources / PACKAGE)
    before = Path.cwd()
    os.chdir(sources)  # mypyc names modules by their way from here
    try:
        extensions = mypycify(
            ["--ignore-missing-imports", *modules()],
            opt_level="3",
            debug_level="0",
            group_name=PACKAGE,
            target_dir=str(folder / "c"),
            multi_file=True,
        )
        command = OnAllCores(Distribution({"name": PACKAGE, "ext_modules": extensions}))
        command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "objects")
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
    return sorted(path for path in (folder / "lib").rglob("*") if path.is_file())


def modules() -> list[str]:
    """The files that are compiled, as seen from the folder that the package is in."""
    package = Path(PACKAGE)
    files = [path for floor in FLOORS for path in sorted((package / floor).rglob("*.py"))]
    left = {package / name for name in LEFT_AS_THEY_ARE}
    return [str(path) for path in files if path.name != "__init__.py" and not {path, path.parent} & left]
