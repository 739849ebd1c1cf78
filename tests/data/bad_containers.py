"""WAV headers and chunks that lie, and the other containers, whole and cut."""

import struct

import numpy as np

from tests.data.waves import (
    NOISE,
    RATE,
    Kind,
    changed,
    chunk,
    encoded,
    file,
    flipped,
    form,
    kept,
    patched,
    riff,
    sound,
    wav,
)

BODY = NOISE.tobytes()
TRUNCATED = "truncated: N of N bytes of sound are there"
NOT_ONE = "cannot be decoded (not a recording)"
FULL = (1 << 32) - 1


def _extensible(bits: int, tag: int = 1) -> bytes:
    guid = struct.pack("<H", tag) + b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    return form(tag=0xFFFE, bits=bits, extra=struct.pack("<HHI", 22, bits, 4) + guid)


def _rifx() -> bytes:
    body = NOISE.astype(">i2").tobytes()
    fields = struct.pack(">HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    head = b"WAVEfmt " + struct.pack(">I", 16) + fields + b"data" + struct.pack(">I", len(body))
    return b"RIFX" + struct.pack(">I", len(head) + len(body)) + head + body


HEADERS = (
    ("header_only", "WAV, header only", NOT_ONE, riff(form(), sound())[:44]),
    ("half_a_header", "WAV, half a header", "", wav()[:20]),
    ("no_data", "WAV without a data chunk", "", riff(form())),
    ("no_fmt", "WAV without a fmt chunk", "", riff(sound())),
    ("no_samples", "WAV of zero samples", "", riff(form(), sound(b""))),
    ("half", "WAV cut in half", TRUNCATED, wav()[: len(wav()) // 2]),
    ("two_percent", "WAV that lacks 2 % at its end", "used", wav()[: int(len(wav()) * 0.98)]),
    ("promises_2gib", "WAV, data size 2 GiB", TRUNCATED, riff(form(), sound(BODY, 2**31 - 2))),
    ("promises_4gib", "WAV, data size 4 GiB", TRUNCATED, riff(form(), sound(BODY, FULL - 1))),
    ("riff_size_0", "WAV, RIFF size 0", "used", riff(form(), sound(), size=0)),
    ("riff_size_large", "WAV, RIFF size 2 GiB", "used", riff(form(), sound(), size=2**31)),
    ("data_size_0", "WAV, data size 0 before a second of sound", "", riff(form(), sound(BODY, 0))),
    ("data_size_small", "WAV, data size a half of what follows", "used",
     riff(form(), sound(BODY, len(BODY) // 2))),
    ("streamed", "WAV written to a pipe, sizes unknown", "used",
     riff(form(), sound(BODY, FULL), size=FULL)),
    ("rate_0", "rate 0 Hz", "", wav(rate=0)),
    ("rate_1", "rate 1 Hz", "", wav(rate=1)),
    ("rate_3999", "rate 3999 Hz", "", wav(rate=3999)),
    ("rate_4000", "rate 4000 Hz", "used", wav(rate=4000)),
    ("rate_192000", "rate 192 kHz", "used", wav(rate=192_000)),
    ("rate_192001", "rate 192 001 Hz", "", wav(rate=192_001)),
    ("rate_2_31", "rate 2^31 - 1 Hz", "", wav(rate=2**31 - 1)),
    ("rate_2_32", "rate 2^32 - 1 Hz", "", wav(rate=FULL)),
    ("channels_0", "0 channels", "", wav(channels=0)),
    ("channels_8", "8 channels", "used", wav(channels=8)),
    ("channels_9", "9 channels", "", wav(channels=9)),
    ("channels_1024", "1024 channels", "", wav(channels=1024)),
    ("channels_65535", "65 535 channels", "", wav(channels=65_535)),
    ("align_0", "block align 0", "", wav(align=0)),
    ("align_wrong", "block align 7 of 16-bit mono", "", wav(align=7)),
    ("bits_0", "0 bits", "", wav(bits=0)),
    ("bits_8", "8-bit", "used", wav(bits=8)),
    ("bits_13", "13-bit", "", wav(bits=13)),
    ("bits_24", "24-bit", "used", riff(form(bits=24), sound(NOISE[:9000].tobytes()))),
    ("bits_32", "32-bit", "used", wav(bits=32)),
    ("bits_64", "64-bit whole numbers", "", wav(bits=64)),
    ("extensible", "WAVE_FORMAT_EXTENSIBLE, 16-bit", "used", riff(_extensible(16), sound())),
    ("extensible_odd", "WAVE_FORMAT_EXTENSIBLE of an unknown coding", "",
     riff(_extensible(16, 0x1234), sound())),
    ("tag_unknown", "WAV of an unknown coding", "", wav(tag=0x1234)),
    ("rifx", "WAV in big-endian order (RIFX)", "used", _rifx()),
    ("junk_first", "WAV, junk chunk before the sound", "used",
     riff(form(), chunk(b"JUNK", bytes(501)), sound())),
    ("junk_huge", "WAV, junk chunk of 2 GiB before the sound", "",
     riff(form(), chunk(b"JUNK", b"", 2**31), sound())),
    ("fmt_last", "WAV, fmt chunk after the sound", "", riff(sound(), form())),
    ("fmt_twice", "WAV, two fmt chunks that differ", "",
     riff(form(), form(rate=8000, channels=2), sound())),
    ("fmt_short", "WAV, fmt chunk of 4 bytes", "", riff(chunk(b"fmt ", b"\1\0\1\0"), sound())),
    ("list_huge", "WAV, LIST chunk of 4 GiB", "", riff(form(), chunk(b"LIST", b"INFO", FULL), sound())),
    ("cue_huge", "WAV, 2^31 cue points", "used",
     riff(form(), chunk(b"cue ", struct.pack("<I", 2**31 - 1)), sound())),
    ("chunks_many", "WAV, 50 000 empty chunks", "used",
     riff(form(), chunk(b"note", b"") * 50_000, sound())),
    ("tail", "WAV, 1 kB of anything behind the sound", "used", wav() + bytes(range(250)) * 4),
)  # fmt: skip

WHOLE = {
    "aiff": ("AIFF", {"format": "AIFF", "subtype": "PCM_16"}),
    "aifc": ("AIFC, float", {"format": "AIFF", "subtype": "FLOAT"}),
    "au": ("AU", {"format": "AU", "subtype": "PCM_16"}),
    "caf": ("CAF", {"format": "CAF", "subtype": "PCM_16"}),
    "w64": ("W64", {"format": "W64", "subtype": "PCM_16"}),
    "rf64": ("RF64", {"format": "RF64", "subtype": "PCM_16"}),
    "flac": ("FLAC", {"format": "FLAC"}),
    "vorbis": ("OGG Vorbis", {"format": "OGG", "subtype": "VORBIS"}),
    "opus": ("OGG Opus", {"format": "OGG", "subtype": "OPUS"}),
    "mp3": ("MP3", {"format": "MP3"}),
}
LOSSY = ("vorbis", "opus", "mp3")
LONG = np.tile(NOISE, 4)


def _cut(name: str) -> str:
    return {
        "flac": "",
        "mp3": "",
    }.get(name, TRUNCATED)


CODED = (
    ("flac_header", "FLAC, header only", "", {"format": "FLAC"}, kept(0.001)),
    ("flac_flip", "FLAC, one byte inverted in the sound", "", {"format": "FLAC"}, flipped(0.5)),
    ("flac_streaminfo", "FLAC, its first block inverted in part", "", {"format": "FLAC"},
     patched(8, b"\xff" * 6)),
    ("flac_unknown", "FLAC that names no length", "used", {"format": "FLAC"},
     patched(21, b"\xf0\0\0\0\0")),
    ("flac_endless", "FLAC that promises 2^36 - 1 samples", "", {"format": "FLAC"},
     patched(21, b"\xff" * 5)),
    ("flac_md5", "FLAC, checksum of the sound wrong", "used", {"format": "FLAC"},
     patched(26, b"\x55" * 16)),
    ("ogg_header", "OGG, first page only", "", {"format": "OGG"}, lambda b: b[:58]),
    ("ogg_flip", "OGG Vorbis, one byte inverted in the sound", "", {"format": "OGG"}, flipped(0.6)),
    ("ogg_flip_head", "OGG Vorbis, one byte inverted in its tables", "", {"format": "OGG"},
     patched(300, b"\xa5\x5a")),
    ("ogg_chained", "OGG Vorbis, two one after another", "used", {"format": "OGG"}, lambda b: b + b),
    ("mp3_header", "MP3, first 20 bytes", "", {"format": "MP3"}, lambda b: b[:20]),
    ("mp3_flip", "MP3, one byte inverted", "used", {"format": "MP3"}, flipped(0.5)),
    ("mp3_hole", "MP3, zeros in the middle", "used", {"format": "MP3"},
     lambda b: b[: len(b) // 2] + bytes(400) + b[len(b) // 2 + 400 :]),
    ("mp3_tag", "MP3 behind an ID3 tag", "used", {"format": "MP3"},
     lambda b: b"ID3\4\0\0\0\0\7\x68" + bytes(1000) + b),
    ("mp3_tag_huge", "MP3, ID3 tag of 256 MiB promised", "", {"format": "MP3"},
     lambda b: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + b),
)  # fmt: skip

KINDS = (
    *(Kind(name, what, outcome, file(content)) for name, what, outcome, content in HEADERS),
    *(
        Kind(f"{name}_as_wav", f"{what}, named .wav", "used", file(encoded(**kind)))
        for name, (what, kind) in WHOLE.items()
    ),
    *(
        Kind(
            f"{name}_half",
            f"{what} cut in half",
            _cut(name),
            file(changed(encoded(LONG, **kind), kept(0.5)), f"a.{name}"),
        )
        for name, (what, kind) in WHOLE.items()
    ),
    *(
        Kind(name, what, outcome, file(changed(encoded(LONG, **kind), change)))
        for name, what, outcome, kind, change in CODED
    ),
)
