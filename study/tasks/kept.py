"""What is costly to find out about a user's data, kept beside the prepared images: tensors in a safetensors file."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from study.data.cache import at_work
from study.data.images import cache_folder
from study.errors import UserError
from study.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor


def kept(kind: str, key: str, make: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], str]:
    """Tensors by name and the SHA-256 of the file they are in; made if there is no such file or it is not whole.

    Of the processes of a node that want them at once, one makes them and the others wait.

    Args:
        kind: What they are: the start of the file's name.
        key: All that they depend on.
        make: Makes them.

    Raises:
        UserError: The file cannot be written.
    """
    from safetensors.torch import save

    name = f"{kind}-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.safetensors"
    path = cache_folder() / name
    found = _read(path)
    if found is not None:
        return found
    with contextlib.ExitStack() as alone:
        with _refusing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            alone.enter_context(at_work(path, path.name))
        found = _read(path)
        if found is not None:
            return found
        content = save(make())
        with _refusing(path):
            write_whole(path, content)
        return _loaded(content)


def _read(path: Path) -> tuple[dict[str, Tensor], str] | None:
    from safetensors import SafetensorError

    with contextlib.suppress(OSError, SafetensorError):
        return _loaded(path.read_bytes())
    return None


def _loaded(content: bytes) -> tuple[dict[str, Tensor], str]:
    from safetensors.torch import load

    return load(content), hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot keep {path.name} in {path.parent}: {error.strerror or error}; MANYPATHS_CACHE names another folder"
        ) from None
