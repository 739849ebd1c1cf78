"""What a recording's file says of itself, read before and beside the decoder.

Only formats that are named here reach libsndfile, which knows many more and tries its raw ones by
the name's ending. Nothing here decodes: an answer costs a few reads.
"""

import errno
import os
import stat
import zlib
from pathlib import Path
from typing import BinaryIO, Literal

FORMATS = frozenset(["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"])
SUBTYPES = frozenset(
    (
        *("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"),
        *("IMA_ADPCM", "MS_ADPCM", "VORBIS", "OPUS"),
        *("MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"),
    )
)
_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"caff", b"fLaC", b"OggS", b"ID3")
_MPEG = (".mp3", ".mp2", ".mpga")  # frames may begin anywhere in these, after anything
_Order = Literal["little", "big"]
# Where chunks begin, the one with the sound, bytes of a chunk's identity and size, byte order.
_CHUNKS: dict[bytes, tuple[int, bytes, int, int, _Order]] = {
    b"RIFF": (12, b"data", 4, 4, "little"),
    b"RIFX": (12, b"data", 4, 4, "big"),
    b"FORM": (12, b"SSND", 4, 4, "big"),
    b"caff": (8, b"data", 4, 8, "big"),
    b"riff": (40, b"data", 16, 8, "little"),
}
_LONGEST_PAGE = 65_307  # bytes, of Ogg
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_ONES = 2**32 - 1


def why_not(path: Path) -> str:
    """Why this is no file to decode, in a few words; "" if it may be one. Opens no pipe."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return "a link to nothing" if path.is_symlink() else "no such file"
    except (OSError, ValueError) as error:  # ValueError: a name that holds a zero byte
        number = getattr(error, "errno", None)
        known = {
            errno.ELOOP: "a link that leads back to itself",
            errno.EACCES: "cannot be opened (permission denied)",
            errno.ENOTDIR: "no such file",
        }
        return known.get(number or 0, f"cannot be opened ({getattr(error, 'strerror', error)})")
    if stat.S_ISDIR(found.st_mode):
        return "not a file but a folder"
    if not stat.S_ISREG(found.st_mode):
        return "not a file but a pipe, a socket or a device"
    if not found.st_size:
        return "empty file"
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except PermissionError:
        return "cannot be opened (permission denied)"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    known_magic = head.startswith(_MAGIC) or head[:1] == b"\xff"
    return (
        "" if known_magic or path.suffix.lower() in _MPEG else "cannot be decoded (not a recording)"
    )


def promises_length(file_format: str, path: Path) -> bool:
    """False for an MP3 without a Xing or VBRI header, whose length is a guess."""
    if file_format != "MP3":
        return True
    with path.open("rb") as stream:
        head = stream.read(10)
        if head[:3] == b"ID3":  # a tag, its size in seven-bit bytes
            stream.seek(10 + sum(byte << 7 * place for place, byte in enumerate(head[:5:-1])))
            head = b""
        head += stream.read(512)
    return any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))


def sound_bytes(path: Path) -> tuple[int, int]:
    """`(promised, present)` bytes of sound; (0, 0) where the container makes no promise.

    libsndfile shortens what was cut without a word, and ends a cut Ogg at its last whole page.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(12)
        if magic[:4] == b"RIFF" and magic[4:8] == b"\xff\xff\xff\xff":
            return 0, 0  # written to a pipe: sizes unknown
        if magic[:4] == b"RF64":
            promised = int.from_bytes(file.read(24)[16:], "little")  # in its first chunk, ds64
            return promised, min(promised, size)
        if magic[:4] == b".snd":
            begin, promised = (int.from_bytes(magic[i : i + 4], "big") for i in (4, 8))
            return (0, 0) if promised == 2**32 - 1 else (promised, min(promised, size - begin))
        if magic[:4] == b"OggS":
            return _ogg_bytes(file, size)
        if magic[:4] in _CHUNKS:
            return _chunk_bytes(file, size, *_CHUNKS[magic[:4]])
    return 0, 0


def _chunk_bytes(
    file: BinaryIO, size: int, first: int, name: bytes, identity: int, width: int, order: _Order
) -> tuple[int, int]:
    """The chunk `name`'s. Identities and sizes have so many bytes; W64's size counts both."""
    file.seek(first)
    header = identity + width
    while len(head := file.read(header)) == header:
        promised = int.from_bytes(head[identity:], order)
        if identity == 16:
            promised -= header
        if head.startswith(name):
            unknown = promised >= 2 ** (8 * width) - 1
            return (0, 0) if unknown else (promised, min(promised, size - file.tell()))
        even = {16: 8}.get(identity, 2 if width == 4 else 1)
        if not 0 <= promised <= size:
            break
        file.seek(promised + -promised % even, os.SEEK_CUR)
    return 0, 0


def _ogg_bytes(file: BinaryIO, size: int) -> tuple[int, int]:
    """A file that was cut ends inside a page."""
    file.seek(max(0, size - _LONGEST_PAGE))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0:
        return 0, 0
    segments = tail[page + 27 : page + 27 + tail[page + 26]] if page + 26 < len(tail) else b""
    whole = len(segments) > 0 and page + 27 + len(segments) + sum(segments) <= len(tail)
    return (0, 0) if whole else (size, 0)


def ogg_damage(path: Path) -> str:
    """The first page of an Ogg that is not what was written, or is missing; "" if all are whole.

    libsndfile passes over such pages without a word, and the sound closes up over the hole. The
    checksum of Ogg (RFC 3533) is zlib's with the bits of each byte the other way round, begun and
    ended with zeros.
    """
    following: dict[bytes, int] = {}  # of each stream, the number of its next page
    page = 0
    with path.open("rb") as file:
        while len(head := file.read(27)) == 27 and head[:4] == b"OggS":
            page += 1
            sizes = file.read(head[26])
            body = head[:22] + bytes(4) + head[26:] + sizes + file.read(sum(sizes))
            mirrored = zlib.crc32(body.translate(_MIRRORED), _ONES) ^ _ONES
            if mirrored.to_bytes(4, "big").translate(_MIRRORED) != head[22:26]:
                return f"page {page} fails its checksum"
            stream, number = head[14:18], int.from_bytes(head[18:22], "little")
            begins = bool(head[5] & 2)
            if not begins and number != following.get(stream, number):
                return f"before page {page} there is one missing"
            following[stream] = number + 1
        rest = head + file.read(1)
    return f"no page begins where page {page} ends" if rest.strip(b"\0") else ""
