"""Makes what a suite needs: its archive (checked by its hash), a fresh unpacked copy, an environment of pip's or npm's.

Archives and environments are kept in the cache folder and made once. Not here: running anything.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import venv
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from interop.suites.suite import Archive, Commit, Folder, Sdist, Setting, Suite

DOWNLOAD_TIMEOUT_S = 60


class PreparationError(Exception):
    """A suite cannot be had; the text says why."""


def default_cache_folder() -> Path:
    """The user's cache folder, as XDG names it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "amqp-broker" / "suites"


def python_for(suite: Suite, cache: Path) -> Path:
    """The Python of the suite's virtual environment, which is built first where it is missing or its packages changed.

    Raises:
        PreparationError: pip could not install the packages.
    """
    wanted = hashlib.sha256("\n".join([sys.version, *suite.requirements]).encode()).hexdigest()
    folder = cache / f"{suite.name}-{suite.version}-environment"
    python = folder / "bin" / "python"
    stamp = folder / "built-from"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"{suite.name}: building its environment in {folder}", flush=True)
    venv.create(folder, clear=True, with_pip=True)
    _run_pip(python, "install", "--only-binary=:all:", "--prefer-binary", *suite.requirements)
    stamp.write_text(wanted)
    return python


def node_modules_for(suite: Suite, cache: Path) -> Path:
    """The folder of the suite's npm packages, which is made first where it is missing or its packages changed.

    Raises:
        PreparationError: npm could not install them.
    """
    folder = cache / f"{suite.name}-{suite.version}-environment"
    modules, stamp, wanted = folder / "node_modules", folder / "built-from", "\n".join(suite.requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return modules
    print(f"{suite.name}: building its environment in {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *suite.requirements)
    stamp.write_text(wanted)
    return modules


def unpacked_copy(suite: Suite, cache: Path, destination: Path, own_tree: Path | None = None) -> Path:
    """A fresh copy of the suite's tree, unchanged as yet.

    Args:
        destination: an empty folder to put it in.
        own_tree: take this tree of the client's source in place of the pinned archive.

    Raises:
        PreparationError: it cannot be fetched, or is not what was pinned.
    """
    tree = own_tree or (suite.source.path if isinstance(suite.source, Folder) else None)
    if tree is not None:
        copy = destination / "tree"
        shutil.copytree(tree, copy, ignore=shutil.ignore_patterns(".git", "__pycache__"))
        return copy
    if isinstance(suite.source, Commit):
        return _checked_out(suite.source, destination / "tree")
    assert not isinstance(suite.source, Folder)
    with tarfile.open(_archive(suite.source, cache)) as archive:
        archive.extractall(destination, filter="data")
    (copy,) = destination.iterdir()
    return copy


def apply_setting(tree: Path, setting: Setting, places: Mapping[str, str]) -> None:
    """Rewrites a piece of configuration in the copy.

    Args:
        places: what stands for what in its new text.

    Raises:
        PreparationError: it is nowhere to be found, so the suite would not talk to the broker under test.
    """
    new = filled_in(setting.new, places)
    affected = [path for path in tree.glob(setting.paths) if setting.old in path.read_text()]
    if not affected:
        raise PreparationError(f"no {setting.old!r} in {setting.paths}: the setting in catalogue.py no longer fits")
    for path in affected:
        path.write_text(path.read_text().replace(setting.old, new))


def filled_in(text: str, places: Mapping[str, str]) -> str:
    """The text, with what {each} of the places stands for."""
    for place, meant in places.items():
        text = text.replace(f"{{{place}}}", meant)
    return text


def _checked_out(source: Commit, tree: Path) -> Path:
    """The commit's files; git itself checks that they are what the commit's name says."""
    tree.mkdir()
    fetched = ("fetch", "--quiet", "--depth", "1", source.url, source.commit)
    for arguments in (("init", "--quiet"), fetched, ("checkout", "--quiet", source.commit)):
        done = subprocess.run(["git", "-C", str(tree), *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PreparationError(f"git {' '.join(arguments)}: {done.stderr.strip()}; --source takes a tree of yours")
    return tree


def _archive(source: Sdist | Archive, cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"{source.sha256}.tar.gz"
    if kept.exists() and _sha256(kept) == source.sha256:
        return kept
    if isinstance(source, Sdist):
        _download_sdist(source, kept)
    else:
        _download(source.urls, kept)
    found = _sha256(kept)
    if found != source.sha256:
        kept.unlink()
        raise PreparationError(f"{source} was pinned with another hash than what came: {found}")
    return kept


def _download_sdist(source: Sdist, kept: Path) -> None:
    """By the index's own page, because pip would build the package to learn its name."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    page = f"{index}/{source.project}/"
    try:
        with urllib.request.urlopen(page, timeout=DOWNLOAD_TIMEOUT_S) as answer:
            links = re.findall(r'href="([^"]+)"', answer.read().decode())
    except (urllib.error.URLError, OSError) as error:
        raise PreparationError(f"{page}: {error}") from error
    found = [urljoin(page, html.unescape(link)) for link in links]
    urls = tuple(url for url in found if urlsplit(url).path.endswith(f"/{source.file_name}"))
    _download(urls, kept)


def _download(urls: tuple[str, ...], kept: Path) -> None:
    refusals = []
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as answer, kept.open("wb") as file:
                shutil.copyfileobj(answer, file)
            return
        except (urllib.error.URLError, OSError) as error:
            refusals.append(f"{url}: {error}")
    raise PreparationError("none of the archive's addresses has it:\n  " + "\n  ".join(refusals))


def _run_pip(python: Path, *arguments: str) -> None:
    _run(str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise PreparationError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise PreparationError(f"{' '.join(command)}\n{done.stderr[-4000:]}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
