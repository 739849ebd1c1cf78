"""What bad recordings are made of: a WAV header that says whatever one likes, and encoders."""

import dataclasses
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
NOISE = np.random.default_rng(0).integers(-20_000, 20_000, RATE).astype("<i2")
Make = Callable[[Path], Path]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of recording: a name, a phrase for the page, how it is made, and its outcome.

    `make` takes an empty folder and returns the path in it. `outcome` is "used" or the reason of
    the `AudioError`, its numbers as N. `unreadable`: it is to be read as someone without rights.
    `slow`: it takes a second to make.
    """

    name: str
    what: str
    outcome: str
    make: Make
    unreadable: bool = False
    slow: bool = False


def chunk(name: bytes, body: bytes, promised: int | None = None) -> bytes:
    """A RIFF chunk, with its pad byte, that promises `promised` bytes or what it has."""
    size = len(body) if promised is None else promised
    return name + struct.pack("<I", size) + body + b"\0" * (len(body) % 2)


def form(
    *,
    tag: int = 1,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    align: int | None = None,
    extra: bytes = b"",
) -> bytes:
    """A `fmt ` chunk; `extra` follows its sixteen bytes."""
    whole = channels * -(-bits // 8) if align is None else align
    fields = (tag, channels, rate, rate * whole % 2**32, whole % 2**16, bits)
    return chunk(b"fmt ", struct.pack("<HHIIHH", *fields) + extra)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    """A WAV of these chunks."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def sound(body: bytes = NOISE.tobytes(), promised: int | None = None) -> bytes:
    """A `data` chunk."""
    return chunk(b"data", body, promised)


def wav(**changes: int) -> bytes:
    """A one-second 16-bit WAV of noise whose `fmt ` says something else."""
    return riff(form(**changes), sound())


def encoded(samples: np.ndarray = NOISE, rate: int = RATE, **kind: str) -> Callable[[Path], bytes]:
    """A function that encodes `samples`, in a folder, as soundfile's `format` and `subtype`."""

    def make(folder: Path) -> bytes:
        path = folder / "encoded"
        soundfile.write(path, samples / np.float32(32768), rate, **kind)
        content = path.read_bytes()
        path.unlink()
        return content

    return make


def file(content: bytes | Callable[[Path], bytes], name: str = "a.wav") -> Make:
    """Writes the content under that name."""

    def make(folder: Path) -> Path:
        path = folder / name
        whole = content if isinstance(content, bytes) else content(folder)
        Path(os.fsdecode(path)).write_bytes(whole)
        return path

    return make


def changed(
    content: Callable[[Path], bytes], change: Callable[[bytes], bytes]
) -> Callable[[Path], bytes]:
    """The content after a change."""
    return lambda folder: change(content(folder))


def kept(share: float) -> Callable[[bytes], bytes]:
    """Cuts off the rest."""
    return lambda whole: whole[: int(len(whole) * share)]


def flipped(share: float) -> Callable[[bytes], bytes]:
    """Inverts one byte at that share of the length."""

    def change(whole: bytes) -> bytes:
        at = int(len(whole) * share)
        return whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]

    return change


def patched(at: int, with_: bytes) -> Callable[[bytes], bytes]:
    """Overwrites bytes."""
    return lambda whole: whole[:at] + with_ + whole[at + len(with_) :]


def mpeg_in_wav(mp3: bytes, rate: int = RATE) -> bytes:
    """A WAV of coding 0x55 around MPEG layer 3 frames."""
    extra = struct.pack("<HHIHHH", 12, 1, 2, 418, 1, 1393)
    return riff(form(tag=0x55, rate=rate, bits=0, align=1, extra=extra), sound(mp3))
