"""Recordings of a fiftieth of a second in every coding that is read: the fuzzer's beginnings."""

import io
import struct
from collections.abc import Callable
from functools import partial

import numpy as np
import soundfile

from tests.data.waves import chunk, form, mpeg_in_wav, riff, sound

RATE = 8000
TONE = (np.sin(np.arange(160) / 3) * np.linspace(0, 0.6, 160)).astype(np.float32)


def encoded(kind: str, subtype: str, channels: int = 1, samples: np.ndarray = TONE) -> bytes:
    """`samples` in that format and coding."""
    out = io.BytesIO()
    rows = np.stack([samples] * channels, 1)
    soundfile.write(out, rows, RATE, format=kind, subtype=subtype)
    return out.getvalue()


def chunky() -> bytes:
    """A WAV with the chunks that libsndfile looks into."""
    extras = (
        chunk(b"LIST", b"INFOINAM" + struct.pack("<I", 4) + b"name"),
        chunk(b"cue ", struct.pack("<IIIIIII", 1, 1, 0, 0x61746164, 0, 0, 0)),
        chunk(b"smpl", bytes(36) + struct.pack("<IIIIIIII", 1, 0, 0, 0, 0, 9, 0, 0)),
        chunk(b"PEAK", struct.pack("<IIfI", 1, 0, 0.5, 3)),
        chunk(b"bext", bytes(602)),
    )
    return riff(form(rate=RATE), *extras, sound(b"\1\2" * 160))


Makers = dict[str, list[Callable[[], bytes]]]
WAV = "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ALAW ULAW MS_ADPCM IMA_ADPCM"
AIFF = "PCM_S8 PCM_U8 PCM_16 PCM_24 FLOAT DOUBLE ALAW ULAW IMA_ADPCM"
MAKERS: Makers = {
    "wav": [
        chunky,
        lambda: mpeg_in_wav(encoded("MP3", "MPEG_LAYER_III"), RATE),
        partial(encoded, "WAVEX", "PCM_16", 2),
        partial(encoded, "W64", "PCM_16"),
        partial(encoded, "RF64", "PCM_16"),
        *(partial(encoded, "WAV", subtype) for subtype in WAV.split()),
    ],
    "flac": [
        *(partial(encoded, "FLAC", f"PCM_{bits}", c) for bits in ("S8", 16, 24) for c in (1, 2)),
        partial(encoded, "FLAC", "PCM_16", samples=np.zeros(5000, np.float32)),
    ],
    "ogg": [
        partial(encoded, "OGG", "VORBIS"),
        partial(encoded, "OGG", "OPUS"),
        partial(encoded, "OGG", "OPUS", 2),
    ],
    "mp3": [
        partial(encoded, "MP3", "MPEG_LAYER_III"),
        partial(encoded, "MP3", "MPEG_LAYER_III", 2),
        lambda: b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + encoded("MP3", "MPEG_LAYER_III"),
    ],
    "aiff": [
        *(partial(encoded, "AIFF", subtype) for subtype in AIFF.split()),
        partial(encoded, "AIFF", "PCM_16", 2),
        partial(encoded, "CAF", "PCM_16"),
        partial(encoded, "CAF", "FLOAT"),
        partial(encoded, "AU", "PCM_16"),
        partial(encoded, "AU", "ULAW"),
    ],
}
