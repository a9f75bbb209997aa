"""Tests of fetching, from a server on this machine."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import pathlib
import tarfile
import threading
from collections.abc import Iterator

import pytest
from etils import epath

from tests.tfds_builders import archives
from tfds_builders import fetch, montgomery_cxr
from tfds_builders.montgomery_cxr import dummy_data


class Server(http.server.ThreadingHTTPServer):
    """Serves files from memory, the way it is told to.

    Attributes:
      files: Content by path.
      tag: What marks the files' version; "" for none.
      ranges: Whether parts of files are sent.
      cut: Bytes after which the next answers end, once each.
      seen: Path and Range of each request.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.tag, self.ranges = '"one"', True
        self.cut: list[int] = []
        self.seen: list[tuple[str, str]] = []
        self.sent = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self._start(self.server.files.get(self.path), 0)

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.seen.append((self.path, wanted))
        content = self.server.files.get(self.path)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if not self._start(content, start if self.server.ranges else 0):
            return
        body = content[start if self.server.ranges else 0 :]
        if self.server.cut:
            body = body[: self.server.cut.pop(0)]
        self.server.sent += len(body)
        self.wfile.write(body)

    def _start(self, content: bytes | None, start: int) -> bool:
        if content is None:
            self.send_error(404)
            return False
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        self.end_headers()
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def _parts(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.glob(".*.part"))


def test_archives_are_fetched_unpacked_and_not_fetched_again(
    server: Server, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
    content = archives.zipped({"set/a.png": b"a", "set/b/c.txt": b"c"})
    server.files = {
        "/x.zip": content,
        "/y.tgz": archives.tarred({"d.xml": b"<d/>"}),
    }
    digest = hashlib.sha256(content).hexdigest()

    for _ in range(2):
        fetch.fetch(fetch.Archive(f"{server.address}/x.zip", digest), tmp_path)
        fetch.fetch(fetch.Archive(f"{server.address}/y.tgz"), tmp_path)

    assert (tmp_path / "set/b/c.txt").read_bytes() == b"c"
    assert (tmp_path / "d.xml").read_bytes() == b"<d/>"
    assert [path for path, _ in server.seen] == ["/x.zip", "/y.tgz"]
    assert capsys.readouterr().out.count("x.zip: 2 files") == 2
    left = {path.name for path in (tmp_path / fetch.ARCHIVES).iterdir()}
    assert left == {"x.zip.done", "y.tgz.done"}


def test_a_broken_connection_resumes_where_it_broke(
    server: Server, tmp_path: pathlib.Path
):
    server.files = {"/x": archives.noise()}
    server.cut = [20_000, 10_000]

    fetch.download(f"{server.address}/x", tmp_path / "x")

    assert (tmp_path / "x").read_bytes() == archives.noise()
    ranges = [wanted for _, wanted in server.seen]
    assert ranges == ["bytes=0-", "bytes=20000-", "bytes=30000-"]
    assert server.sent == len(archives.noise())
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("change", ["nothing", "file", "no ranges", "no tag", "whole"])
def test_a_later_process_resumes_if_the_file_is_the_same(
    server: Server, tmp_path: pathlib.Path, change: str
):
    expected = archives.noise()
    server.files = {"/x": expected}
    if change == "no tag":
        server.tag = ""
    server.cut = [15_000] + [0] * 20
    with pytest.raises(fetch.FetchError):
        fetch.download(f"{server.address}/x", tmp_path / "x")
    (part,) = _parts(tmp_path)
    assert part.stat().st_size == 15_000
    server.seen.clear()
    server.cut.clear()
    if change == "file":
        server.tag, expected = '"two"', archives.noise()[::-1]
        server.files["/x"] = expected
    elif change == "no ranges":
        server.ranges = False
    elif change == "whole":
        part.write_bytes(expected)

    fetch.download(f"{server.address}/x", tmp_path / "x")

    assert (tmp_path / "x").read_bytes() == expected
    asked = {"file": ["bytes=0-"], "whole": []}.get(change, ["bytes=15000-"])
    assert [wanted for _, wanted in server.seen] == asked


def test_another_file_than_expected_is_refused(server: Server, tmp_path: pathlib.Path):
    server.files = {"/x": b"other"}

    with pytest.raises(fetch.FetchError, match="not the file expected: sha256 d9298a"):
        fetch.download(f"{server.address}/x", tmp_path / "x", sha256="0" * 64)

    assert [p.name for p in tmp_path.iterdir()] == ["x.wrong"]


def test_a_connection_that_keeps_breaking_ends_with_what_to_do(
    server: Server, tmp_path: pathlib.Path
):
    server.files = {"/x": archives.noise()}
    server.cut = [1_000] + [0] * 20

    with pytest.raises(fetch.FetchError, match="1000 bytes are kept: the same"):
        fetch.download(f"{server.address}/x", tmp_path / "x")


def _know(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    source = fetch.Source("https://example.org/set", "Cite it.", (fetch.Archive(url),))
    monkeypatch.setattr(fetch, "SETS", {name: source})


def test_what_is_gone_is_said_with_the_page(
    server: Server,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    _know(monkeypatch, "shenzhen_cxr", f"{server.address}/x.zip")

    code = fetch.main(["shenzhen_cxr", "--folder", str(tmp_path / "new")])

    said = capsys.readouterr()
    assert code == 1
    assert "Cite it." in said.out
    assert "x.zip cannot be fetched: HTTP Error 404: Not Found" in said.err
    assert "Its page: https://example.org/set" in said.err


def test_where_nobody_answers_the_error_says_so(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("no_proxy", "*")

    with pytest.raises(fetch.FetchError, match=r"x cannot be fetched: .*refused"):
        fetch.download("http://127.0.0.1:9/x", tmp_path / "x")


def test_a_page_in_place_of_an_archive_is_removed(
    server: Server, tmp_path: pathlib.Path
):
    server.files = {"/x.zip": b"<!DOCTYPE html><title>moved</title>"}

    with pytest.raises(fetch.FetchError, match=r"x\.zip is damaged, or not an archive"):
        fetch.fetch(fetch.Archive(f"{server.address}/x.zip"), tmp_path)

    assert not [*(tmp_path / fetch.ARCHIVES).iterdir()]


def test_a_full_disk_is_said_with_what_to_do(
    server: Server,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    server.files = {"/x.zip": archives.noise()}
    _know(monkeypatch, "shenzhen_cxr", f"{server.address}/x.zip")

    def fill(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "_append", fill)

    assert fetch.main(["shenzhen_cxr", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"No space left on device Make room in {tmp_path}" in said


def test_what_is_fetched_is_what_the_builder_reads(
    server: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    made = tmp_path / "made"
    dummy_data.write(epath.Path(made), images=4)
    names = [p.relative_to(made).as_posix() for p in made.rglob("*.*") if p.is_file()]
    files = {f"MontgomerySet/{n}": (made / n).read_bytes() for n in names}
    server.files = {"/m.zip": archives.zipped(files)}
    _know(monkeypatch, "montgomery_cxr", f"{server.address}/m.zip")
    folder = tmp_path / "data"

    assert fetch.main(["montgomery_cxr", "--folder", str(folder)]) == 0

    config = montgomery_cxr.Config(name="test", folder=str(folder))
    builder = montgomery_cxr.Builder(data_dir=tmp_path / "prepared", config=config)
    assert [item.image_id for item in builder.found] == dummy_data.names(4)


def test_every_address_is_one_of_the_web(tmp_path: pathlib.Path):
    for source in fetch.SETS.values():
        assert all(part.url.startswith("https://") for part in source.archives)
    with pytest.raises(fetch.FetchError, match="not an http or https address"):
        fetch.download("file:///etc/hosts", tmp_path / "x")


def _unpack(content: bytes, folder: pathlib.Path, **options: bool) -> int:
    path = folder / "x"
    path.write_bytes(content)
    return fetch.unpack(path, folder / "out", **options)


def _there(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_zips_inside_are_unpacked_where_they_lie(tmp_path: pathlib.Path):
    inner = archives.zipped({"part-1/1386.png": b"png"})
    content = archives.zipped({"Set/part-1.zip": inner, "Set/a.csv": b"a"})

    assert _unpack(content, tmp_path, inner=True) == 2

    assert _there(tmp_path / "out") == {
        "Set/part-1/1386.png": b"png",
        "Set/a.csv": b"a",
    }


def test_what_macos_adds_is_passed_over(tmp_path: pathlib.Path):
    junk = b"\0\5\x16\7" + bytes(40)
    files = {
        "Set/part-1.zip": archives.zipped({"a.png": b"a", "__MACOSX/._a.png": junk}),
        "__MACOSX/Set/._part-1.zip": junk,
        "Set/._b.zip": junk,
    }

    assert _unpack(archives.zipped(files), tmp_path, inner=True) == 1

    assert _there(tmp_path / "out") == {"Set/a.png": b"a"}


@pytest.mark.parametrize("make", [archives.zipped, archives.tarred])
def test_no_path_leads_out(tmp_path: pathlib.Path, make):
    content = make({"../evil.txt": b"x", "/tmp/evil.txt": b"x", "a/../../evil": b"x"})
    (tmp_path / "there").mkdir()

    with contextlib.suppress(fetch.FetchError):
        _unpack(content, tmp_path / "there")

    outside = set(_there(tmp_path)) - {"there/x"}
    assert all(name.startswith("there/out/") for name in outside)


def test_a_python_that_cannot_unpack_safely_says_so(tmp_path, monkeypatch):
    archive = tmp_path / "a.tgz"
    with tarfile.open(archive, "w:gz"):
        pass
    monkeypatch.delattr(tarfile, "data_filter")

    with pytest.raises(fetch.FetchError, match=r"a\.tgz can't be unpacked .* 3\.11\.4"):
        fetch.unpack(archive, tmp_path / "out")

    assert archive.exists()


@pytest.mark.parametrize("make", [archives.zipped, archives.tarred])
@pytest.mark.parametrize("place", ["middle", "end"])
def test_a_damaged_archive_leaves_what_was_there(
    tmp_path: pathlib.Path, make, place: str
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    content = make({"a.png": b"a new", "b.png": b"b", "c.bin": archives.noise()})
    at = len(content) // 2
    if place == "end":  # the checksum of the tar, the last file of the zip
        is_tar = make is archives.tarred
        at = len(content) - 8 if is_tar else content.rfind(b"c.bin") - 1000
    content = content[:at] + bytes(4) + content[at + 4 :]

    with pytest.raises(fetch.FetchError, match="is damaged"):
        _unpack(content, tmp_path)

    assert _there(tmp_path) == {"out/a.png": b"mine"}


@pytest.mark.parametrize("make", [archives.zipped, archives.tarred])
def test_a_file_that_was_there_is_replaced(tmp_path: pathlib.Path, make):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"half")

    _unpack(make({"a.png": b"all of it"}), tmp_path)

    assert _there(tmp_path / "out") == {"a.png": b"all of it"}
