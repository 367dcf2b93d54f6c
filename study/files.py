"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path


def write_whole(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file so that readers see what was there before or all of the content, whatever stops it.

    Args:
        path: The file, in a folder that exists; something else than a regular file, such as /dev/stdout, is written to.
        content: What it is to hold.
        durable: True to return only when the disk has it.

    Raises:
        OSError: If it cannot be written; what was there is still there.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
