"""Width and height of an image file from its first bytes."""

import struct
from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""From an offset and a number of bytes to the bytes of a file that are there."""


def image_size(read: Read) -> tuple[int, int] | None:
    """Return width and height of a JPEG, PNG or WebP file as they are stored, before any rotation.

    None for another format, and for a damaged header.
    """
    start = read(0, 30)
    try:
        if start.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack(">II", start[16:24])
        elif start.startswith(b"\xff\xd8"):
            return _jpeg(read)
        elif start[:4] == b"RIFF" and start[8:12] == b"WEBP":
            width, height = _webp(start)
        else:
            return None
    except struct.error:
        return None
    return (width, height) if width and height else None


def _jpeg(read: Read) -> tuple[int, int] | None:
    """Walk along the segments to the start of frame (ITU T.81, B.2.2)."""
    offset = 2
    while True:
        mark, kind, length = struct.unpack(">BBH", read(offset, 4))
        if mark != 0xFF:
            return None
        if kind == 0xFF:  # a fill byte
            offset += 1
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", read(offset + 5, 4))
            return (width, height) if width and height else None
        else:
            offset += 2 + length


def _webp(start: bytes) -> tuple[int, int]:
    """Read the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    kind = start[12:16]
    if kind == b"VP8X":
        return int.from_bytes(start[24:27], "little") + 1, int.from_bytes(start[27:30], "little") + 1
    if kind == b"VP8L":
        bits = struct.unpack("<I", start[21:25])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", start[26:30])
    return width & 0x3FFF, height & 0x3FFF
