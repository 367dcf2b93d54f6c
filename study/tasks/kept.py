"""What is costly to find out about a user's data, kept beside the prepared images: tensors in a safetensors file."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from study.data.images import cache_folder
from study.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def kept(kind: str, key: str, make: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], str]:
    """Tensors by name and the SHA-256 of the file they are in; made if there is no such file or it is not whole.

    Args:
        kind: What they are: the start of the file's name.
        key: All that they depend on.
        make: Makes them.

    Raises:
        UserError: The file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    folder = cache_folder()
    path = folder / f"{kind}-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):
        content = path.read_bytes()
        return load(content), hashlib.sha256(content).hexdigest()
    content = save(make())
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"cannot keep {path.name} in {folder}: {error.strerror or error}; MANYPATHS_CACHE names another folder"
        ) from None
    return load(content), hashlib.sha256(content).hexdigest()
