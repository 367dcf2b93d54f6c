"""Encoded pictures (PNG, JPEG, BMP, WebP) as arrays of one shape."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from study.data.contents import BLOCK, Pixels, reason
from study.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
COLOUR = ("P", "PA", "RGB", "RGBA", "CMYK")
"""Pillow's names for what these formats hold."""
BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow raises for files that are no pictures, or half of one."""


class Picture(NamedTuple):
    """An encoded picture: what messages call it, and its path or its bytes."""

    name: str
    data: str | bytes


@dataclass(frozen=True)
class Form:
    """How pictures of a set become arrays of one shape.

    In this order: `crop`, if given, cuts a square of that side from the middle; `size`, if given, takes the largest
    square in the middle and resizes it (bilinear, antialiased); without `size` all pictures must have one square size.
    Where a margin is odd, the square lies half a pixel towards the top left.

    Attributes:
        size: Side of the result in pixels; None: as the pictures are.
        crop: Side of the square that is cut first.
        expected: Width and height that every picture must have.
        channels: 3 or 1; None: 1 if every picture is grey, else 3.
    """

    size: int | None = None
    crop: int | None = None
    expected: tuple[int, int] | None = None
    channels: int | None = None

    def __str__(self) -> str:
        """What becomes of the pictures, in words."""
        crop = f"centre crop {self.crop} x {self.crop}" if self.crop else ""
        size = f"resized to {self.size} x {self.size} (centre square, bilinear, antialiased)" if self.size else ""
        return ", ".join(filter(None, (crop, size))) or "pixels as they are"

    def side(self, name: str, width: int, height: int) -> int:
        """The side of what a picture of this width and height becomes.

        Raises:
            UserError: If it is not of the size it has to be.
        """
        if self.expected and (width, height) != self.expected:
            rule = f"{self.expected[0]} x {self.expected[1]}"
            raise UserError(f"{name} is {width} x {height}: every image of this set is {rule}")
        if self.crop and min(width, height) < self.crop:
            raise UserError(f"{name} is {width} x {height}: too small for a centre crop of {self.crop}")
        if self.size or self.crop:
            return self.size or self.crop or 0
        if width != height:
            raise UserError(f"{name} is {width} x {height}: without a size to resize to, images have to be square")
        return width

    def cut(self, image: Image.Image) -> Image.Image:
        """Crop and resize a picture of mode L or RGB."""
        from PIL import Image

        if self.crop:
            image = image.crop(_middle(image.size, self.crop))
        if self.size:
            square = _middle(image.size, min(image.size))
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=square)
        return image


def _middle(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """A square in the middle: left, top, right, bottom."""
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side


@contextmanager
def opened(picture: Picture) -> Iterator[Image.Image]:
    """A picture of which the header has been read.

    Raises:
        UserError: If it is none, is broken (also found out by the caller's block), or has more pixels than Pillow
            takes for harmless.
    """
    from PIL import Image, UnidentifiedImageError

    limit = Image.MAX_IMAGE_PIXELS or 0
    try:
        source = io.BytesIO(picture.data) if isinstance(picture.data, bytes) else picture.data
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > limit:
                raise Image.DecompressionBombError
            if image.mode not in GREY + COLOUR:
                raise UserError(f"{picture.name} has Pillow's mode {image.mode}, which is not read")
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"{picture.name} has more than {limit} pixels, which is refused") from None
    except UnidentifiedImageError:
        raise UserError(f"{picture.name} is not an image in PNG, JPEG, BMP or WebP, or not whole") from None
    except BROKEN as error:
        raise UserError(f"cannot read the image {picture.name}: {reason(error)}") from None


def survey(pictures: Iterable[Picture], form: Form) -> tuple[int, int]:
    """Channels and side that pictures will have, from their headers.

    Raises:
        UserError: If they do not all have one size where they need to, or a header cannot be read.
    """
    known = form.size or form.crop or (form.expected or (0,))[0]
    if form.channels and known:
        return form.channels, known
    channels, first, side = form.channels or 1, "", 0
    for picture in pictures:
        with opened(picture) as image:
            here = form.side(picture.name, *image.size)
            if first and here != side:
                raise UserError(
                    f"{first} is {side} x {side} and {picture.name} {here} x {here}: without a size to resize to, "
                    "images need one size"
                )
            first, side = first or picture.name, here
            channels = max(channels, form.channels or (3 if image.mode in COLOUR else 1))
    return channels, side


def decode(picture: Picture, form: Form, channels: int) -> Pixels:
    """A picture's pixels, shape (channels, side, side).

    Conversion: 16 bits become the higher 8; palettes their colours; transparency is dropped and what lies beneath
    shown, as it is; an animation is its first frame; a note that a camera was turned is not heeded.
    """
    from PIL import Image

    with opened(picture) as image:
        form.side(picture.name, *image.size)
        image.load()
        flat: Image.Image = image
        if image.mode.startswith("I"):
            flat = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode in ("P", "PA"):
            flat = image.convert("RGBA")  # straight to RGB, Pillow warns of palettes with transparency
        return array(form.cut(flat.convert("L" if channels == 1 else "RGB")))


def picture(pixels: Pixels) -> Image.Image:
    """An array of shape (1 or 3, h, w) as a picture of mode L or RGB."""
    from PIL import Image

    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def array(image: Image.Image) -> Pixels:
    """A picture of mode L or RGB as an array of shape (c, h, w)."""
    pixels: Pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def blocks(pictures: Iterable[Picture], form: Form, shape: tuple[int, int, int]) -> Iterator[Pixels]:
    """Decoded pictures of one shape in blocks, in order; decoded side by side."""

    def one(picture: Picture) -> Pixels:
        pixels = decode(picture, form, shape[0])
        if pixels.shape != shape:
            raise UserError(f"{picture.name} changed while it was read")
        return pixels

    waiting = iter(pictures)
    with ThreadPoolExecutor() as pool:
        while some := list(islice(waiting, BLOCK)):
            yield np.stack(list(pool.map(one, some)))
