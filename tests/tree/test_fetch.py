# SPDX-License-Identifier: GPL-2.0-only
"""Sources are fetched by apt, checked, unpacked and left alone afterwards; here by an apt of a few lines."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from stressvmap.errors import ConfigError
from stressvmap.tree import cache
from stressvmap.tree import fetch as fetch_module
from stressvmap.tree.fetch import Fetched, FetchError, archive_of, fetch, package_name

PACKAGE = "linux-source-6.1"
FILE = f"{PACKAGE}_6.1.7-1%3a2_all.deb"

APT = """\
#!/bin/sh
# Finds the package in its own folder; what `$0.mode` says goes wrong.
here=$(dirname "$0"); mode=$(cat "$here/mode"); sum=$(cat "$here/sum"); echo "$@" >> "$here/calls"
case "$*" in
*update*) [ "$mode" = offline ] && echo "W: Failed to fetch http://mirror: could not resolve" >&2; exit 0 ;;
*--print-uris*)
	case "$mode" in
	offline|unknown) echo "E: Unable to locate package" >&2; exit 100 ;;
	old-lists) case "$*" in *Dir::State*) ;; *) echo "E: Unable to locate package" >&2; exit 100 ;; esac ;;
	esac
	echo "'http://mirror/x.deb' FILE $(wc -c < "$here/x.deb") SHA256:$sum" ;;
*)
	case "$mode" in
	cut) head -c 9 "$here/x.deb" > FILE; echo "E: Failed to fetch http://mirror/x.deb: timed out" >&2; exit 100 ;;
	damaged) head -c 9 "$here/x.deb" > FILE ;;
	*) cp "$here/x.deb" FILE ;;
	esac ;;
esac
""".replace("FILE", FILE)
DPKG = '#!/bin/sh\n[ "$1" = --fsys-tarfile ] && exec cat "$2"\n'


class Apt:
    """The programs in PATH, and what goes wrong with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name, text in (("apt-get", APT), ("dpkg-deb", DPKG)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        content = package_of({f"./usr/src/{PACKAGE}.tar.xz": b"the sources", "./usr/share/doc/x": b"not this"})
        (folder / "x.deb").write_bytes(content)
        (folder / "sum").write_text(hashlib.sha256(content).hexdigest())
        self.fails("")

    def fails(self, how: str) -> None:
        (self.folder / "mode").write_text(how)

    def calls(self, word: str) -> int:
        path = self.folder / "calls"
        return path.read_text().count(word) if path.exists() else 0


def package_of(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def apt(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    made = Apt(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}:/usr/bin:/bin")
    return made


def test_an_archive_is_fetched_once_and_its_size_is_said_first(apt: Apt) -> None:
    said: list[str] = []
    archive = cache.sources() / f"{PACKAGE}.tar.xz"
    assert fetch([PACKAGE], said.append) == [Fetched(PACKAGE, "6.1.7-1:2", archive, True)]
    assert archive.read_bytes() == b"the sources"
    assert said[0].startswith(f"{PACKAGE} 6.1.7-1:2: 0.0 MB to fetch")
    assert fetch([PACKAGE], said.append) == [Fetched(PACKAGE, "6.1.7-1:2", archive, False)]
    assert apt.calls("--print-uris") == 1
    left = sorted(path.name for path in cache.sources().rglob("*") if path.is_file())
    assert left == [f"{PACKAGE}.json", f"{PACKAGE}.tar.xz", "lock"]


def test_a_download_that_was_cut_goes_on(apt: Apt) -> None:
    apt.fails("cut")
    with pytest.raises(
        FetchError, match=f"{PACKAGE} cannot be fetched: Failed to fetch http://mirror/x.deb: timed out"
    ):
        fetch([PACKAGE], lambda _line: None)
    assert archive_of(PACKAGE) is None
    apt.fails("")
    said: list[str] = []
    fetch([PACKAGE], said.append)
    assert f"fetching {FILE}, going on where it stopped" in said
    assert archive_of(PACKAGE) is not None


def test_a_package_that_is_not_what_the_lists_tell_of_is_thrown_away(apt: Apt) -> None:
    apt.fails("damaged")
    with pytest.raises(FetchError, match=r"is not the file that apt's lists tell of \(SHA256\); try again"):
        fetch([PACKAGE], lambda _line: None)
    assert [path.name for path in cache.sources().rglob("*") if path.is_file()] == ["lock"]


def test_lists_of_our_own_are_used_where_the_systems_do_not_have_it(apt: Apt) -> None:
    apt.fails("old-lists")
    assert fetch([PACKAGE], lambda _line: None)[0].is_new
    assert apt.calls("update") == 1


def test_no_network_is_said_and_is_no_fault_of_the_user(apt: Apt) -> None:
    apt.fails("offline")
    with pytest.raises(
        FetchError, match=r"Failed to fetch http://mirror: could not resolve; a kernel tree of your own"
    ):
        fetch([PACKAGE], lambda _line: None)
    assert FetchError.exit_status == 4


def test_a_package_that_the_distribution_does_not_have_is_named(apt: Apt) -> None:
    apt.fails("unknown")
    with pytest.raises(ConfigError, match=f"apt has no package {PACKAGE} in this distribution"):
        fetch([PACKAGE], lambda _line: None)


def test_where_there_is_no_apt_a_tree_of_ones_own_is_recommended(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ConfigError, match=f"there is no apt-get here to fetch {PACKAGE} with; a kernel tree of your own"
    ):
        fetch([PACKAGE], lambda _line: None)


def test_a_package_without_the_archive_is_named(apt: Apt) -> None:
    content = package_of({"./usr/share/doc/x": b"not this"})
    (apt.folder / "x.deb").write_bytes(content)
    (apt.folder / "sum").write_text(hashlib.sha256(content).hexdigest())
    with pytest.raises(FetchError, match=rf"holds no {PACKAGE}\.tar\.xz"):
        fetch([PACKAGE], lambda _line: None)


def test_the_stamp_names_version_and_digest(apt: Apt) -> None:
    fetch([PACKAGE], lambda _line: None)
    stamp = json.loads((cache.sources() / f"{PACKAGE}.json").read_text())
    assert (stamp["version"], stamp["package_sha256"]) == ("6.1.7-1:2", (apt.folder / "sum").read_text())


def test_a_release_names_its_package() -> None:
    assert package_name("6.12") == package_name("linux-source-6.12") == "linux-source-6.12"
    for name in ("", "linux", "6.1; rm", "../6.1"):
        with pytest.raises(ConfigError, match="is not the name of a source package"):
            package_name(name)


def test_where_lists_of_our_own_are_needed_for_one_package_the_others_are_taken_from_them_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system's lists may hold one of a distribution's suites alone, and so an older release."""
    known = {("a", False): "6.1.176", ("a", True): "6.1.192", ("b", True): "6.12.117", ("c", False): "5.10"}

    def look_up(package: str, options: tuple[str, ...]) -> fetch_module.Offer | None:
        version = known.get((package, bool(options)))
        return None if version is None else fetch_module.Offer(package, f"{package}.deb", version, 1, "", options)

    said: list[str] = []
    monkeypatch.setattr(fetch_module, "_look_up", look_up)
    monkeypatch.setattr(fetch_module, "_own_lists", lambda: (("-o", "lists"), ""))
    assert [one.version for one in fetch_module._offers(["a"], said.append)] == ["6.1.176"]
    assert said == []
    offers = fetch_module._offers(["a", "b", "c"], said.append)
    assert [(one.version, one.options) for one in offers] == [
        ("6.1.192", ("-o", "lists")),
        ("6.12.117", ("-o", "lists")),
        ("5.10", ()),
    ]
    assert "apt's lists do not have b;" in said[0]
    with pytest.raises(ConfigError, match="apt has no package d"):
        fetch_module._offers(["d"], said.append)
