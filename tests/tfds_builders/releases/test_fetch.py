"""Tests of fetching, from a server on this machine."""

from __future__ import annotations

import errno
import hashlib
import http.server
import json
import pathlib
import threading
from collections.abc import Iterator

import pytest
from etils import epath

from tests.tfds_builders import archives
from tfds_builders import fetch, montgomery_cxr, transfer
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

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.seen.append((self.path, wanted))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start, status = 0, 200
        same = self.headers.get("If-Range", "") == self.server.tag
        if wanted and self.server.ranges and same:
            start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
        if status == 206 and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(status)
        if status == 206:
            end = f"{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", f"bytes {start}-{end}")
        self.send_header("Content-Length", str(len(content) - start))
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        self.end_headers()
        body = content[start:]
        if self.server.cut:
            body = body[: self.server.cut.pop(0)]
        self.server.sent += len(body)
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(transfer, "_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def _source(*parts: fetch.Archive | fetch.Tree) -> fetch.Source:
    return fetch.Source(page="https://example.org/set", terms="Cite it.", ways=(parts,))


def test_archives_are_fetched_unpacked_and_not_fetched_again(
    server: Server, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
    content = archives.zipped({"set/a.png": b"a", "set/b/c.txt": b"c"})
    server.files = {
        "/x.zip": content,
        "/y.tgz": archives.tarred({"d.xml": b"<d/>"}),
    }
    digest = hashlib.sha256(content).hexdigest()
    source = _source(
        fetch.Archive(f"{server.address}/x.zip", digest),
        fetch.Archive(f"{server.address}/y.tgz"),
    )

    fetch.fetch(source, tmp_path)
    fetch.fetch(source, tmp_path)

    assert (tmp_path / "set/b/c.txt").read_bytes() == b"c"
    assert (tmp_path / "d.xml").read_bytes() == b"<d/>"
    assert [path for path, _ in server.seen] == ["/x.zip", "/y.tgz"]
    said = capsys.readouterr().out
    assert f"x.zip: {len(content)} bytes, sha256 {digest}" in said
    assert {p.name for p in (tmp_path / fetch.ARCHIVES).iterdir()} == {fetch.DONE}
    record = json.loads((tmp_path / fetch.ARCHIVES / fetch.DONE).read_text())
    assert record[f"{server.address}/x.zip"]["files"] == 2


def test_a_broken_connection_goes_on_where_it_broke(
    server: Server, tmp_path: pathlib.Path
):
    server.files = {"/x": archives.noise()}
    server.cut = [20_000, 10_000]

    digest = transfer.download(f"{server.address}/x", tmp_path / "x")

    assert (tmp_path / "x").read_bytes() == archives.noise()
    assert digest == hashlib.sha256(archives.noise()).hexdigest()
    ranges = [wanted for _, wanted in server.seen]
    assert ranges == ["", "bytes=20000-", "bytes=30000-"]
    assert server.sent == len(archives.noise())
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def _stop_after(server: Server, tmp_path: pathlib.Path, size: int) -> None:
    """Fetches a part of a file, as a stopped process does."""
    server.files = {"/x": archives.noise()}
    server.cut = [size]
    part = tmp_path / ".x.part"
    assert not transfer._continue(f"{server.address}/x", part, transfer.Progress("x"))
    server.seen.clear()


@pytest.mark.parametrize("change", ["nothing", "file", "no ranges", "no tag", "whole"])
def test_a_later_process_goes_on_if_the_file_is_the_same(
    server: Server, tmp_path: pathlib.Path, change: str
):
    expected = archives.noise()
    _stop_after(server, tmp_path, 15_000)
    if change == "file":
        server.tag, expected = '"two"', archives.noise()[::-1]
        server.files["/x"] = expected
    elif change == "no ranges":
        server.ranges = False
    elif change == "no tag":
        (tmp_path / ".x.tag").unlink()
    elif change == "whole":
        (tmp_path / ".x.part").write_bytes(expected)

    transfer.download(f"{server.address}/x", tmp_path / "x")

    assert (tmp_path / "x").read_bytes() == expected
    asked = "" if change == "no tag" else "bytes=15000-"
    if change == "whole":
        asked = f"bytes={len(expected)}-"
    assert server.seen == [("/x", asked)]


def test_another_file_than_expected_is_refused(server: Server, tmp_path: pathlib.Path):
    server.files = {"/x": b"other"}

    with pytest.raises(
        transfer.FetchError, match="not the file expected: sha256 d9298a"
    ):
        transfer.download(f"{server.address}/x", tmp_path / "x", sha256="0" * 64)

    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".tag"] == [".x.wrong"]


def test_a_connection_that_keeps_breaking_ends_with_what_to_do(
    server: Server, tmp_path: pathlib.Path
):
    server.files = {"/x": archives.noise()}
    server.cut = [1_000] + [0] * 20

    with pytest.raises(transfer.FetchError, match="1000 bytes are kept; try again"):
        transfer.download(f"{server.address}/x", tmp_path / "x")


def test_what_is_gone_is_said_with_the_page(
    server: Server,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    source = _source(fetch.Archive(f"{server.address}/x.zip"))
    monkeypatch.setattr(fetch, "SETS", {"shenzhen_cxr": source})

    code = fetch.main(["shenzhen_cxr", "--folder", str(tmp_path / "new")])

    said = capsys.readouterr()
    assert code == 1
    assert "Cite it." in said.out
    assert f"{server.address}/x.zip is gone (404 Not Found)" in said.err
    assert "Look for it at https://example.org/set" in said.err


def test_where_nobody_answers_the_error_says_so(server: Server, tmp_path: pathlib.Path):
    address = server.address
    server.server_close()

    with pytest.raises(transfer.GoneError, match=r"x cannot be fetched: .*refused"):
        transfer.download(f"{address}/x", tmp_path / "x")


def test_a_page_in_place_of_an_archive_counts_as_gone(
    server: Server, tmp_path: pathlib.Path
):
    server.files = {"/x.zip": b"<!DOCTYPE html><title>moved</title>"}

    with pytest.raises(transfer.GoneError, match="no archive, but to what begins with"):
        fetch.fetch(_source(fetch.Archive(f"{server.address}/x.zip")), tmp_path)

    assert not (tmp_path / fetch.ARCHIVES / "x.zip").exists()


def test_a_gone_archive_is_fetched_file_by_file(server: Server, tmp_path: pathlib.Path):
    page = (
        b'<html><a href="index.html">up</a><a href="a_1.png">a</a>'
        b'<a href="./b%20c.PNG">b</a><a href="../secret.png">s</a>'
        b'<a href="https://example.org/other/d.png">d</a></html>'
    )
    server.files = {
        "/set/CXR_png/index.html": page,
        "/set/CXR_png/a_1.png": b"a",
        "/set/CXR_png/b%20c.PNG": b"b",
    }
    tree = fetch.Tree(f"{server.address}/set", ("CXR_png",), "Copy")
    archive = fetch.Archive(f"{server.address}/x.zip")
    source = fetch.Source(page="", terms="", ways=((archive,), (tree,)))

    fetch.fetch(source, tmp_path)
    seen = len(server.seen)
    fetch.fetch(source, tmp_path)

    files = {p.name: p.read_bytes() for p in (tmp_path / "Copy/CXR_png").iterdir()}
    assert {n: c for n, c in files.items() if n[0] != "."} == {
        "a_1.png": b"a",
        "b c.PNG": b"b",
    }
    # The second time only the archive and the index are asked for.
    assert len(server.seen) == seen + 2


def test_a_full_disk_is_said_before_and_while_writing(
    server: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    server.files = {"/x": archives.noise()}
    with (
        pytest.raises(transfer.FetchError, match=r"is full: .* Make room"),
        transfer.room(tmp_path, 10),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), transfer.room(tmp_path, 10):
        raise PermissionError("not mine")

    class Usage:
        free = 1000

    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda folder: Usage)
    with pytest.raises(transfer.FetchError, match=r"is full: 0\.00 GB more are needed"):
        transfer.download(f"{server.address}/x", tmp_path / "x")


def test_what_is_fetched_is_what_the_builder_reads(
    server: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    made = tmp_path / "made"
    dummy_data.write(epath.Path(made), images=4)
    names = [p.relative_to(made).as_posix() for p in made.rglob("*.*") if p.is_file()]
    files = {f"MontgomerySet/{n}": (made / n).read_bytes() for n in names}
    server.files = {"/m.zip": archives.zipped(files)}
    source = _source(fetch.Archive(f"{server.address}/m.zip"))
    monkeypatch.setattr(fetch, "SETS", {"montgomery_cxr": source})
    folder = tmp_path / "data"

    assert fetch.main(["montgomery_cxr", "--folder", str(folder)]) == 0

    config = montgomery_cxr.Config(name="test", folder=str(folder))
    builder = montgomery_cxr.Builder(data_dir=tmp_path / "prepared", config=config)
    assert [item.image_id for item in builder.found] == dummy_data.names(4)


def test_every_address_is_one_of_the_web(tmp_path: pathlib.Path):
    for source in fetch.SETS.values():
        assert all(part.url.startswith("https://") for w in source.ways for part in w)
    with pytest.raises(transfer.FetchError, match="no http or https address"):
        transfer.download("file:///etc/hosts", tmp_path / "x")
