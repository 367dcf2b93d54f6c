"""Files below one folder, on a local disk or any Arrow file system: each is written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import time
import uuid
from collections.abc import Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
from pyarrow import fs

from study.errors import UserError
from study.files import write_whole

REQUESTS = 16
"""Requests in flight where many files are read or removed."""

CLAIM_SECONDS, CLAIM_TRIES = 30.0, 150
"""Tries, about a quarter of a second each, outlast the claim of somebody who died."""

WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that have no hard links."""


@dataclass(frozen=True)
class Entry:
    """One name in a folder.

    Attributes:
        name: The name.
        bytes: Size of a file; None of a folder.
    """

    name: str
    bytes: int | None


class Folder:
    """The files below a path or URI; names are relative to it."""

    def __init__(self, root: str | Path) -> None:
        """Open a folder, which need not exist yet.

        Args:
            root: A path, or a URI such as s3://bucket/runs/x.

        Raises:
            UserError: For a URI that no file system answers to, or a path that is a file.
        """
        try:
            if "://" in str(root):
                self._fs, self._path = fs.FileSystem.from_uri(_with_options(str(root)))
            else:
                self._fs, self._path = fs.LocalFileSystem(), str(Path(root).absolute())
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UserError(f"cannot open the run directory {root}: {error}") from None
        if not self._path.strip("/"):
            raise UserError(f"cannot open the run directory {root}: it names no folder")
        self.local = isinstance(self._fs, fs.LocalFileSystem)
        if self.local and Path(self._path).is_file():
            raise UserError(f"{self._path} is a file: a run directory has to be a folder, or not to exist yet")
        self.root = self._path if self.local else str(root)
        self.makes = True  # False where the folder is not to be made anew, once it is gone

    def __str__(self) -> str:
        """The path or URI, as messages show it."""
        return self.root

    def publish(self, name: str, data: bytes) -> None:
        """Write a file whole: readers see what was there before or all of `data`."""
        target = f"{self._path}/{name}"
        if not self.local:
            with self._fs.open_output_stream(target) as stream:
                stream.write(data)
            return
        path = Path(target)
        path.parent.mkdir(parents=self.makes, exist_ok=True)
        write_whole(path, data, durable=True)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file only if there is none; False if there is: of several who try, one gets True.

        A hard link decides it on a local disk and NFS. Elsewhere a claim does, see `_create_by_claim`.
        """
        if not self.local:
            return self._create_by_claim(name, data)
        path = Path(self._path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(data)
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in WITHOUT_LINKS:
                raise
            return self._create_by_claim(name, data)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _create_by_claim(self, name: str, data: bytes) -> bool:
        """Create a file where the file system has no operation for it: say so, look who else does, give way to them.

        Everybody says so before looking, so of two at least one sees the other, and both never go on. Claims are as
        old as the file system says, by its own clock; one of somebody who died counts for CLAIM_SECONDS.

        Raises:
            OSError: If others kept claiming it.
        """
        folder, _, base = name.rpartition("/")
        claim = f"{base}.claim-{uuid.uuid4().hex}.tmp"
        for _ in range(CLAIM_TRIES):
            if self.read(name) is not None:
                return False
            self.publish(f"{folder}/.{claim}".lstrip("/"), b"claim")
            try:
                if self._alone(folder, f".{base}.claim-", f".{claim}"):
                    if self.read(name) is not None:
                        return False
                    self.publish(name, data)
                    return True
            finally:
                self.remove(f"{folder}/.{claim}".lstrip("/"))
            time.sleep(0.05 + secrets.randbelow(450) / 1000)  # so that two do not meet again
        raise OSError(errno.EBUSY, "others keep claiming it", f"{self}/{name}")

    def _alone(self, folder: str, prefix: str, own: str) -> bool:
        found = self._fs.get_file_info(fs.FileSelector(f"{self._path}/{folder}".rstrip("/")))
        claims = {info.base_name: info.mtime for info in found if info.base_name.startswith(prefix)}
        dead = timedelta(seconds=CLAIM_SECONDS)
        return own in claims and all(name == own or claims[own] - made > dead for name, made in claims.items())

    def read(self, name: str) -> bytes | None:
        """A file's content, or None if there is no such file."""
        try:
            with self._fs.open_input_stream(f"{self._path}/{name}") as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(f"{self._path}/{name}")

    def remove_all(self, names: Iterable[str]) -> None:
        """Delete files, where they are there; many at a time."""
        with ThreadPoolExecutor(1 if self.local else REQUESTS) as pool:
            list(pool.map(self.remove, names))

    def exists(self, name: str) -> bool:
        """True if there is such a file."""
        return bool(self._fs.get_file_info(f"{self._path}/{name}").type == fs.FileType.File)

    def entries(self, folder: str = "") -> list[Entry]:
        """Everything inside a folder in order of names, hidden and temporary files too."""
        if self.local:  # without asking the disk about each file, of which there may be many thousands
            with contextlib.suppress(FileNotFoundError), os.scandir(Path(self._path, folder)) as found:
                listed = [(entry.name, entry.path, entry.is_file()) for entry in found]
                return sorted((Entry(name, _size(path) if file else None) for name, path, file in listed), key=_name)
            return []
        selector = fs.FileSelector(f"{self._path}/{folder}".rstrip("/"), allow_not_found=True)
        infos = self._fs.get_file_info(selector)
        return sorted((Entry(i.base_name, i.size if i.type == fs.FileType.File else None) for i in infos), key=_name)

    def names(self, folder: str = "", suffix: str = "") -> list[str]:
        """Names inside a folder in order, hidden and temporary ones left out."""
        if self.local:
            try:
                found = os.listdir(Path(self._path, folder))  # noqa: PTH208 - names alone
            except FileNotFoundError:
                return []
        else:
            found = [entry.name for entry in self.entries(folder)]
        return sorted(name for name in found if not name.startswith(".") and name.endswith(suffix))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The object in a JSON file; None if the file is missing, or not (yet) JSON, or holds something else."""
        data = self.read(name)
        try:
            content = json.loads(data) if data else None
        except ValueError:
            return None
        return content if isinstance(content, dict) else None

    def read_all_json(self, folder: str, *, without: Container[str] = ()) -> dict[str, dict[str, Any]]:
        """Every JSON file of a folder that can be read, by name, some left out; many requests at a time."""
        names = [name for name in self.names(folder, ".json") if name not in without]
        with ThreadPoolExecutor(1 if self.local else REQUESTS) as pool:
            found = pool.map(self.read_json, [f"{folder}/{name}" for name in names])
            return {name: content for name, content in zip(names, found, strict=True) if content is not None}

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Publish a JSON file."""
        self.publish(name, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:  # gone since it was listed
        return 0


def _name(entry: Entry) -> str:
    return entry.name


OPTIONS = {
    "s3": ("allow_delayed_open", "true"),  # a small object is written in one request, not three
    "gs": ("retry_limit_seconds", "30"),  # otherwise nobody hears for a quarter of an hour that there is no network
}
"""What a URI asks Arrow for if it does not say otherwise itself."""


def _with_options(uri: str) -> str:
    parts = urlsplit(uri)
    name, value = OPTIONS.get({"gcs": "gs"}.get(parts.scheme, parts.scheme), ("", ""))
    if not name or name in parse_qs(parts.query):
        return uri
    return f"{uri}{'&' if parts.query else '?'}{name}={value}"
