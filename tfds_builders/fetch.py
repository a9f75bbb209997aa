"""Fetches the sets that anybody may fetch, and unpacks them.

    python -m tfds_builders.fetch montgomery_cxr --folder DIR

Then `folder` of the set's configuration is DIR. Stopped anywhere, the same command goes
on. The other sets ask for a login or for consent; their README says where they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import html.parser
import json
import pathlib
import sys
import urllib.parse
from collections.abc import Mapping, Sequence

from tfds_builders import transfer

ARCHIVES = ".archives"  # holds archives until they are unpacked; builders skip it
DONE = "done.json"  # what was unpacked, in the same folder
_OPENI = "https://openi.nlm.nih.gov/imgs/collections"
_NLM = "https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets"
_RSNA = "https://s3.amazonaws.com/east1.public.rsna.org/AI/2017"


@dataclasses.dataclass(frozen=True)
class Archive:
    """A zip or tar.

    Attributes:
      url: Its address.
      sha256: Its digest, where one was published; "" takes whatever comes.
      inner: Whether it holds zips that must be unpacked too.
    """

    url: str
    sha256: str = ""
    inner: bool = False


@dataclasses.dataclass(frozen=True)
class Tree:
    """Folders on a server, each with an index.html that links to its files.

    Attributes:
      url: Address of the folder that holds them.
      folders: Below it.
      into: Name of the folder that becomes its copy.
    """

    url: str
    folders: tuple[str, ...]
    into: str


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a set is.

    Attributes:
      page: For people.
      terms: What its makers ask.
      ways: Parts that together are the set; further ways for when a part is gone.
    """

    page: str
    terms: str
    ways: tuple[tuple[Archive | Tree, ...], ...]


SETS: Mapping[str, Source] = {
    "montgomery_cxr": Source(
        page=f"{_NLM}/Montgomery-County-CXR-Set/MontgomerySet/index.html",
        terms="Cite Jaeger et al. 2014 and Candemir et al. 2014; do not pass it on.",
        ways=(
            (
                Archive(
                    f"{_OPENI}/NLM-MontgomeryCXRSet.zip",
                    "54601e952315d8f67383e9202a6e145997ade429f54f7e0af44b4e158714f424",
                ),
            ),
            (
                Tree(
                    f"{_NLM}/Montgomery-County-CXR-Set/MontgomerySet",
                    (
                        "CXR_png",
                        "ClinicalReadings",
                        "ManualMask/leftMask",
                        "ManualMask/rightMask",
                    ),
                    "MontgomerySet",
                ),
            ),
        ),
    ),
    "shenzhen_cxr": Source(
        page=f"{_NLM}/Shenzhen-Hospital-CXR-Set/index.html",
        terms="Cite Jaeger et al. 2014 and Candemir et al. 2014; do not pass it on.",
        ways=(
            (Archive(f"{_OPENI}/ChinaSet_AllFiles.zip"),),
            (
                Tree(
                    f"{_NLM}/Shenzhen-Hospital-CXR-Set",
                    ("CXR_png", "ClinicalReadings"),
                    "ChinaSet_AllFiles",
                ),
            ),
        ),
    ),
    "indiana_cxr": Source(
        page="https://openi.nlm.nih.gov/faq",
        terms="Licence CC BY-NC-ND 4.0; cite Demner-Fushman et al. 2016.",
        ways=(
            (
                Archive(f"{_OPENI}/NLMCXR_reports.tgz"),
                Archive(f"{_OPENI}/NLMCXR_png.tgz"),
            ),
        ),
    ),
    "rsna_bone_age": Source(
        page=f"{_RSNA}/",
        terms="RSNA's terms of use: research and education; cite Halabi et al. 2019.",
        ways=(
            (
                Archive(
                    f"{_RSNA}/Bone+Age+Training+Set+Annotations.zip",
                    "f6373249b6ec85d182c62ab83f05fa76dff90ba03315e455dd6de332dffc7215",
                ),
                Archive(f"{_RSNA}/Bone+Age+Test+Set.zip"),
                Archive(
                    f"{_RSNA}/Bone+Age+Validation+Set.zip",
                    "683ea5398dd9d0730af883e673176a5c6817fd35a5a59331a500fa7affcd36f0",
                    inner=True,
                ),
                Archive(
                    f"{_RSNA}/Bone+Age+Training+Set.zip",
                    "9eab917f59bf520b4eb10803d33e7007ea3b3c2bd4df1c55aff45bc339b2736a",
                ),
            ),
        ),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches the set of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders.fetch",
        description="Fetches a set that anybody may fetch, and unpacks it.",
    )
    parser.add_argument("name", choices=sorted(SETS), help="the set")
    parser.add_argument(
        "--folder", required=True, type=pathlib.Path, help="where it goes; made if new"
    )
    parser.add_argument(
        "--keep_archives", action="store_true", help="also when they are unpacked"
    )
    flags = parser.parse_args(arguments)
    source = SETS[flags.name]
    _say(f"{flags.name}: {source.page}\n{source.terms}")
    try:
        fetch(source, flags.folder.expanduser(), keep_archives=flags.keep_archives)
    except (transfer.FetchError, OSError) as error:
        sys.stderr.write(f"\n{flags.name}: {error}\n")
        if isinstance(error, transfer.GoneError):
            sys.stderr.write(f"Look for it at {source.page}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. The same command goes on.\n")
        return 130
    _say(f"{flags.name} lies in {flags.folder}")
    return 0


def fetch(source: Source, folder: pathlib.Path, *, keep_archives: bool = False) -> None:
    """Fetches a set; what is there already stays.

    Args:
      source: Where it is.
      folder: Where it goes; made if new.
      keep_archives: Whether archives stay when they are unpacked.

    Raises:
      GoneError: If no way leads to it any more.
      FetchError: If it cannot be fetched or unpacked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gone = []
    for way in source.ways:
        try:
            for part in way:
                if isinstance(part, Tree):
                    _fetch_tree(part, folder)
                else:
                    _fetch_archive(part, folder, keep=keep_archives)
        except transfer.GoneError as error:
            gone.append(str(error))
        else:
            return
    raise transfer.GoneError(" ".join(gone))


def _fetch_archive(archive: Archive, folder: pathlib.Path, *, keep: bool) -> None:
    path = folder / ARCHIVES / pathlib.PurePosixPath(archive.url).name
    record = folder / ARCHIVES / DONE
    done = json.loads(record.read_text()) if record.exists() else {}
    if archive.url in done:
        _say(f"{path.name} was unpacked before")
        return
    if path.exists():
        digest = archive.sha256
    else:
        digest = transfer.download(archive.url, path, sha256=archive.sha256)
    transfer.require_archive(path, archive.url)
    size = path.stat().st_size
    _say(f"{path.name}: {size} bytes, sha256 {digest or 'not looked at'}")
    found = transfer.unpack(path, folder, inner=archive.inner)
    done[archive.url] = {"size": size, "sha256": digest, "files": len(found)}
    new = record.with_suffix(".new")
    new.write_text(json.dumps(done, indent=2) + "\n")
    new.replace(record)
    if not keep:
        path.unlink()
    _say(f"{path.name}: {len(found)} files in {folder}")


def _fetch_tree(tree: Tree, folder: pathlib.Path) -> None:
    for below in tree.folders:
        address = f"{tree.url}/{below}"
        names = _linked(transfer.read(f"{address}/index.html"))
        if not names:
            raise transfer.GoneError(f"{address}/index.html names no file.")
        for name in names:
            path = folder / tree.into / below / name
            if not path.exists():
                transfer.download(f"{address}/{urllib.parse.quote(name)}", path)
        _say(f"{below}: {len(names)} files")


class _Links(html.parser.HTMLParser):
    """Collects what a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.extend(v for k, v in attrs if tag == "a" and k == "href" and v)


def _linked(page: bytes) -> list[str]:
    """Names of the pictures and texts that lie in the folder of an index page."""
    links = _Links()
    links.feed(page.decode("utf-8", "replace"))
    paths = [urllib.parse.unquote(urllib.parse.urlsplit(u).path) for u in links.found]
    names = {path.removeprefix("./") for path in paths}
    return sorted(
        name
        for name in names
        if name.lower().endswith((".png", ".txt")) and name == pathlib.Path(name).name
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
