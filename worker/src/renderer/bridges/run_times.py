"""Takes the times of a run out of an image's metadata.

Cycles always writes them, and no setting turns that off. Without them the same frame is the same
file, whoever rendered it, and when.
"""

import re
import struct

RUN_TIME = re.compile(rb"(?:Blender:)?cycles\..*_time")


def forget_run_times(path):
    """Rewrites the image `path` without them, if it has any."""
    with open(path, "rb") as file:
        data = file.read()
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        clean = png_without_times(data)
    elif data.startswith(b"\xff\xd8"):
        clean = jpeg_without_times(data)
    elif data.startswith(b"\x76\x2f\x31\x01"):
        clean = exr_without_times(data)
    else:
        return
    if clean != data:
        with open(path, "wb") as file:
            file.write(clean)


def png_without_times(data):
    kept, at = [data[:8]], 8
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        end = at + 12 + size
        if not (kind in {b"tEXt", b"zTXt", b"iTXt"} and RUN_TIME.match(data[at + 8:end - 4])):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def jpeg_without_times(data):
    kept, at = [data[:2]], 2
    # Segments up to the start of the scan, which has no length that could be skipped.
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        end = at + 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
        if not (data[at + 1] == 0xFE and RUN_TIME.match(data[at + 4:end])):
            kept.append(data[at:end])
        at = end
    return b"".join(kept) + data[at:]


def exr_without_times(data):
    """Zeros in place: the offsets that follow the header stay true."""
    clean, at = bytearray(data), 8
    several = struct.unpack("<I", data[4:8])[0] & 0x1000
    while data[at] != 0:
        while data[at] != 0:
            name_end = data.index(b"\0", at)
            kind_end = data.index(b"\0", name_end + 1)
            size = struct.unpack("<I", data[kind_end + 1:kind_end + 5])[0]
            value, end = kind_end + 5, kind_end + 5 + size
            if RUN_TIME.match(data[at:name_end]):
                clean[value:end] = re.sub(rb"\d", b"0", data[value:end])
            at = end
        at += 1
        if not several:
            break
    return bytes(clean)
