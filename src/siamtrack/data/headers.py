"""Width, height and orientation of an image file from its first bytes."""

import struct
from collections.abc import Callable, Iterator

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


def turned(read: Read) -> bool:
    """Return whether a JPEG file asks viewers to turn or mirror it (EXIF orientation, tag 0x0112 of TIFF 6.0)."""
    try:
        for kind, offset in _segments(read):
            start = read(offset, 14) if kind == 0xE1 else b""
            if start[:6] == b"Exif\0\0":
                order = "<" if start[6:8] == b"II" else ">"
                first = offset + 6 + struct.unpack(f"{order}I", start[10:14])[0]
                count = struct.unpack(f"{order}H", read(first, 2))[0]
                entries = read(first + 2, 12 * count)
                for place in range(0, len(entries) - 11, 12):
                    tag, _, _, value = struct.unpack(f"{order}HHIH", entries[place : place + 10])
                    if tag == 0x0112:
                        return bool(1 < value <= 8)
                return False
    except struct.error:
        pass
    return False


def _jpeg(read: Read) -> tuple[int, int] | None:
    for kind, offset in _segments(read):
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack(">HH", read(offset + 1, 4))
            return (width, height) if width and height else None
    return None


def _segments(read: Read) -> Iterator[tuple[int, int]]:
    """Yield kind and offset of the segments of a JPEG file up to its pixels (ITU T.81, B.1.1.4).

    Raises:
        struct.error: the file ends before.
    """
    if read(0, 2) != b"\xff\xd8":
        return
    offset = 2
    while True:
        mark, kind, length = struct.unpack(">BBH", read(offset, 4))
        if mark != 0xFF or kind == 0xDA:
            return
        if kind == 0xFF:  # a fill byte
            offset += 1
        else:
            yield kind, offset + 4
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
