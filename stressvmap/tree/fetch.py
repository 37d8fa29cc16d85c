# SPDX-License-Identifier: GPL-2.0-only
"""Kernel sources for the tests, by the distribution's own package tool: `linux-source-*` into the cache.

Nothing of the system changes: packages are downloaded, not installed. Where apt's lists are empty or out of date (a
fresh container), lists of our own are kept in the cache. apt resumes a download that was cut, and checks it; so do we,
against the SHA256 that apt's lists give.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from stressvmap.errors import ConfigError, StressVmapError
from stressvmap.tree import cache

PACKAGES: Final = ("linux-source-6.1", "linux-source-6.12")
"""What the tests need."""

_OWN_TREE: Final = "a kernel tree of your own does as well: --version tree:PATH"
_DOWNLOADS: Final = ".download"
_LISTS: Final = ".apt"
_URI_LINE: Final = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")
_MARGIN_BYTES: Final = 64 << 20
_CHUNK: Final = 1 << 20


class FetchError(StressVmapError):
    """The sources cannot be had now: no network, or a mirror that does not answer."""

    exit_status = 4


@dataclass(frozen=True, slots=True)
class Offer:
    """A package as apt's lists have it."""

    package: str
    file: str
    version: str
    size_bytes: int
    sha256: str
    options: tuple[str, ...]
    """For apt, to use the lists it was found in."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An archive in the cache."""

    package: str
    version: str
    archive: Path
    is_new: bool


def archive_of(package: str) -> Path | None:
    """The archive of this package in the cache, if it was fetched."""
    return next(iter(sorted(cache.sources().glob(f"{package}.tar.*[0-9z]"))), None)


def package_name(name: str) -> str:
    """`6.1` or `linux-source-6.1` as a package's name. Raises ConfigError."""
    match = re.fullmatch(r"(?:linux-source-)?(\d+(?:\.\d+)*)", name)
    if match is None:
        raise ConfigError(f"{name}: is not the name of a source package, as 6.1 or linux-source-6.1 is")
    return f"linux-source-{match[1]}"


def fetch(packages: Sequence[str], say: Callable[[str], None]) -> list[Fetched]:
    """Bring the packages' archives into the cache; what is there is left alone. `say` is told each step.

    Raises ConfigError where there is no apt or no such package, FetchError where there is no network.
    """
    missing = [package for package in packages if archive_of(package) is None]
    if missing:
        for program in ("apt-get", "dpkg-deb"):
            if shutil.which(program) is None:
                raise ConfigError(f"there is no {program} here to fetch {' and '.join(missing)} with; {_OWN_TREE}")
        with _only_one(say):
            missing = [package for package in missing if archive_of(package) is None]
            offers = _offers(missing, say)
            for offer in offers:
                say(f"{offer.package} {offer.version}: {megabytes(offer.size_bytes)} to fetch, then as much unpacked")
            _check_space(sum(offer.size_bytes for offer in offers) * 2)
            for offer in offers:
                _fetch_one(offer, say)
    return [_fetched(package, is_new=package in missing) for package in packages]


def megabytes(size_bytes: int) -> str:
    """A size as people say it."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes < 1e8 else f"{size_bytes / 1e6:.0f} MB"


def _fetched(package: str, *, is_new: bool) -> Fetched:
    archive = archive_of(package)
    assert archive is not None
    try:
        version = str(json.loads(_stamp(package).read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        version = "of unknown version"
    return Fetched(package, version, archive, is_new)


def _stamp(package: str) -> Path:
    return cache.sources() / f"{package}.json"


@contextmanager
def _only_one(say: Callable[[str], None]) -> Iterator[None]:
    """Two fetches would write to one file: the second waits, and then finds it done."""
    folder = cache.sources() / _DOWNLOADS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the cache {folder} cannot be written: {error.strerror}; set XDG_CACHE_HOME to a folder that can"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another fetch is under way; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check_space(needed_bytes: int) -> None:
    free = shutil.disk_usage(cache.sources()).free
    if free < needed_bytes + _MARGIN_BYTES:
        raise ConfigError(
            f"{cache.sources()}: {megabytes(needed_bytes)} are needed, {megabytes(free)} are free; make room, or set "
            "XDG_CACHE_HOME to a folder elsewhere"
        )


# -- apt ---------------------------------------------------------------------------------------------------


def _offers(packages: Sequence[str], say: Callable[[str], None]) -> list[Offer]:
    """What apt can fetch: by the system's lists if they have everything, else by lists of our own, for what the
    system's have then may be of an older day as well.
    """
    system = [_look_up(package, ()) for package in packages]
    absent = [package for package, found in zip(packages, system, strict=True) if found is None]
    if not absent:
        return [found for found in system if found is not None]
    say(
        f"apt's lists do not have {' and '.join(absent)}; fetching lists into the cache (the system's stay as they are)"
    )
    options, trouble = _own_lists()
    offers = []
    for package, old in zip(packages, system, strict=True):
        found = _look_up(package, options) or old
        if found is None:
            if trouble:
                raise FetchError(f"apt cannot fetch its lists, so {package} cannot be had: {trouble}; {_OWN_TREE}")
            raise ConfigError(f"apt has no package {package} in this distribution; {_OWN_TREE}")
        offers.append(found)
    return offers


def _look_up(package: str, options: tuple[str, ...]) -> Offer | None:
    # In a folder of its own: apt says nothing of a file that lies there already.
    with tempfile.TemporaryDirectory(prefix="stressvmap-apt-") as folder:
        done = _apt([*options, "download", "--print-uris", package], Path(folder))
    match = _URI_LINE.search(done.stdout)
    if done.returncode != 0 or match is None:
        return None
    parts = match["file"].split("_")
    version = unquote(parts[1]) if len(parts) > 1 else ""
    return Offer(package, match["file"], version, int(match["size"]), match["sha256"], options)


def _own_lists() -> tuple[tuple[str, ...], str]:
    """Options for apt to keep lists in the cache, updated now; and what went wrong with that, if anything."""
    folder = cache.sources() / _LISTS
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    options = ("-o", f"Dir::State::lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}")
    done = _apt([*options, "update"], folder)
    return options, _complaint(done.stderr)


def _apt(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    # As root, apt would hand the download to a user who cannot write to the cache, and complain of that.
    patience = ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20"]
    return subprocess.run(
        ["apt-get", "-q", *patience, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"LC_ALL": "C"},
        check=False,
    )


def _complaint(stderr: str) -> str:
    """apt's first line of trouble."""
    lines = [line[2:].strip() for line in stderr.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    return lines[0] if lines else ""


def _fetch_one(offer: Offer, say: Callable[[str], None]) -> None:
    folder = cache.sources() / _DOWNLOADS
    package_file = folder / offer.file
    if not _is_whole(package_file, offer):
        say(f"fetching {offer.file}" + (", going on where it stopped" if package_file.exists() else ""))
        done = _apt([*offer.options, "download", f"{offer.package}={offer.version}"], folder)
        if done.returncode != 0 and not offer.options:
            # The lists are of an older day than the mirror, which keeps only the newest.
            say("apt could not; trying with fresh lists")
            options, trouble = _own_lists()
            newer = _look_up(offer.package, options)
            if newer is None:
                raise FetchError(f"{offer.package} cannot be fetched: {trouble or _complaint(done.stderr)}")
            _fetch_one(newer, say)
            return
        if done.returncode != 0:
            raise FetchError(f"{offer.package} cannot be fetched: {_complaint(done.stderr) or 'apt-get failed'}")
        if not _is_whole(package_file, offer):
            package_file.unlink(missing_ok=True)
            raise FetchError(f"{offer.file}: is not the file that apt's lists tell of (SHA256); try again")
    say(f"unpacking {offer.package}")
    archive = _unpack(package_file, offer)
    stamp = {"package": offer.package, "version": offer.version, "package_sha256": offer.sha256, "archive": archive}
    _stamp(offer.package).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    package_file.unlink()


def _is_whole(package_file: Path, offer: Offer) -> bool:
    if not package_file.is_file() or package_file.stat().st_size != offer.size_bytes:
        return False
    with package_file.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == offer.sha256


def _unpack(package_file: Path, offer: Offer) -> str:
    """Take the one archive out of the package; its name in the cache. Nothing else is written."""
    wanted = re.compile(rf"(?:.*/)?({re.escape(offer.package)}\.tar\.(?:xz|bz2|gz))")
    scratch = cache.sources() / f"{_DOWNLOADS}/{offer.package}.unpacking"
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(package_file)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as unpacker:
        assert unpacker.stdout is not None
        try:
            with tarfile.open(fileobj=unpacker.stdout, mode="r|") as tar:
                for member in tar:
                    match = wanted.fullmatch(member.name)
                    content = tar.extractfile(member) if match and member.isreg() else None
                    if match and content is not None:
                        with scratch.open("wb") as file:
                            shutil.copyfileobj(content, file, _CHUNK)
                        scratch.rename(cache.sources() / match[1])
                        return match[1]
        except tarfile.TarError as error:
            raise FetchError(f"{offer.file}: dpkg-deb cannot unpack it ({error})") from None
        finally:
            unpacker.terminate()
            scratch.unlink(missing_ok=True)
    raise FetchError(f"{offer.file}: holds no {offer.package}.tar.xz")
