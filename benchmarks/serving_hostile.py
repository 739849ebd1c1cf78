"""Requests that mean harm, for `serving.py --hostile`. Each must get 4xx, and the next clip 200.

The server is to run with --idle-seconds=1 --body-seconds=2 and its other limits as they are.
"""

import asyncio
import collections
import contextlib
import functools
import io
import itertools
import random
import struct
from collections.abc import Callable, Sequence

import numpy as np
import soundfile
from serving_load import PATH, form

LARGE = 50_000_000  # bytes, the server's limit
BOMB_MINUTES = 70  # more than the server's limit, of sound
TOGETHER = 8
GOOD = "a clip between them"
_HEAD = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n".encode()
_CHUNK = b"10000\r\n" + bytes(0x10000) + b"\r\n"

Parts = Sequence[bytes]  # of a request, as they are sent
Kind = Callable[[], tuple[Parts, float]]  # with the pause after each


def kinds(good: bytes) -> dict[str, Kind]:
    """Makers of hostile requests, by name.

    Args:
      good: a WAV file that the server takes.
    """
    flac, ogg = bomb("FLAC"), bomb("OGG")
    files = {
        "truncated": good[: len(good) // 2],
        "header only": good[:44],
        "empty": b"",
        "text": b"hello " * 1000,
        "random bytes": random.Random(0).randbytes(100_000),
        f"FLAC bomb ({len(flac) / 1e6:.1f} MB, {BOMB_MINUTES} min)": flac,
        f"OGG bomb ({len(ogg) / 1e6:.1f} MB, {BOMB_MINUTES} min)": ogg,
        "FLAC bomb of unknown length": unknown_length(flac),
        "1 Hz": wav(rate=1),
        "2 GHz": wav(rate=2_000_000_000),
        "1024 channels": wav(channels=1024),
        "NaN": wav(value=np.nan),
        "infinity": wav(value=np.inf),
    }
    made: dict[str, Kind] = {
        name: functools.partial(_at_once, form(file, "../../../etc/x.wav"))
        for name, file in files.items()
    }
    json = _HEAD + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    made |= {
        "wrong type": functools.partial(_at_once, json),
        "oversize, announced": functools.partial(_at_once, _length(10 * LARGE)),
        "oversize, sent": lambda: ([_length(2 * LARGE), *[bytes(0x10000)] * (LARGE // 65000)], 0.0),
        "chunked without end": lambda: (
            [_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[_CHUNK] * (LARGE // 65000)],
            0.0,
        ),
        "silent after its headers": functools.partial(_at_once, _length(1000)),
        "slow": lambda: ([_length(1000), *[b"x"] * 40], 0.1),
        "slow headers": functools.partial(_at_once, _HEAD[:20]),
    }
    return made


def _at_once(request: bytes) -> tuple[Parts, float]:
    return [request], 0.0


def _length(size: int) -> bytes:
    return _HEAD + f"Content-Length: {size}\r\n\r\n".encode()


def wav(rate: int = 44100, channels: int = 1, value: float = 0.1) -> bytes:
    """A WAV file of 32-bit floats."""
    data = np.full(4096, value, "<f4").tobytes()
    fields = 3, channels, rate, rate * channels * 4 & 0xFFFFFFFF, channels * 4, 32
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, *fields) + b"data"
    body = head + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bomb(container: str) -> bytes:
    """A small file that decodes to a lot of silence."""
    rate = 8000
    with soundfile.SoundFile(
        out := io.BytesIO(), "w", samplerate=rate, channels=1, format=container
    ) as file:
        for _ in range(BOMB_MINUTES):
            file.write(np.zeros(60 * rate, np.int16))
    return out.getvalue()


def unknown_length(flac: bytes) -> bytes:
    """The same FLAC, whose header does not say how many samples there are."""
    return flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]


async def attack(port: int, good: bytes, requests: int) -> dict[str, collections.Counter[str]]:
    """Sends so many hostile requests, and a clip after every tenth.

    Returns:
      Statuses by kind; "none" where the connection ended without one.
    """
    makers = kinds(good)
    counted: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    order = itertools.islice(itertools.cycle(makers), requests)
    queue = collections.deque(enumerate(order, 1))
    clip = form(good)

    async def client() -> None:
        while queue:
            number, name = queue.popleft()
            counted[name][await send(port, *makers[name]())] += 1
            if number % 10 == 0:
                counted[GOOD][await send(port, [clip], 0.0)] += 1

    await asyncio.gather(*[client() for _ in range(TOGETHER)])
    return dict(counted)


async def send(port: int, parts: Parts, pause: float) -> str:
    """Sends a request and returns the status of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def write() -> None:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(60):
            line = await reader.readline()
    except (ConnectionError, TimeoutError):
        line = b""
    writing.cancel()
    writer.close()
    return line[9:12].decode() or "none"
