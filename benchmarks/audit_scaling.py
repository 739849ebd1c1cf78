"""How fast the audit is, how that grows with the number of clips, and which copies it finds.

python benchmarks/audit_scaling.py DIR --counts=500,1000,2000,4000 --json=audit_scaling.json

DIR holds recordings (wav, at any depth). Clips that differ are made of them by resampling each by
a factor of its own, which moves every spectral peak; one in ten clips is a planted copy of another
one, changed as `COPIES` lists. Pairs that were not planted are listed by the recordings that they
are made of: DIR's own may share sound. Everything is written below a temporary folder, five-second
clips of 0.4 MB, and removed.
"""

import argparse
import json
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from jaxsound.audit import clips, duplicates, fingerprint
from jaxsound.audit.sources import Catalogue
from jaxsound.data import audio
from jaxsound.data.builder import Clip

Sound = tuple[np.ndarray, int]
PLANTED = 10  # one clip in so many is a copy


def quieter(sound: np.ndarray, rate: int) -> Sound:
    return sound * 10 ** (-12 / 20), rate


def resampled(sound: np.ndarray, rate: int) -> Sound:
    return soxr.resample(sound, rate, 16_000), 16_000


def late(sound: np.ndarray, rate: int) -> Sound:
    return np.concatenate([np.zeros(round(0.2 * rate) + 37), sound])[: len(sound)], rate


def noisy(sound: np.ndarray, rate: int) -> Sound:
    # Noise of each clip's own: the audit finds one noise under two sounds, and is right to.
    seed = zlib.crc32(sound.tobytes())
    noise = np.random.default_rng(seed).standard_normal(len(sound))
    return sound + noise * np.sqrt(np.mean(sound**2)) * 10 ** (-30 / 20), rate


def unchanged(sound: np.ndarray, rate: int) -> Sound:
    return sound, rate


def in_part(sound: np.ndarray, rate: int) -> Sound:
    return np.concatenate([sound[: 2 * rate], sound[: 2 * rate - 1 : -1]]), rate


def everything(sound: np.ndarray, rate: int) -> Sound:
    for change in (quieter, late, noisy, resampled):
        sound, rate = change(sound, rate)
    return sound, rate


# name -> (change, file suffix)
COPIES: dict[str, tuple[Callable[[np.ndarray, int], Sound], str]] = {
    "gain -12 dB": (quieter, ".wav"),
    "16 kHz": (resampled, ".wav"),
    "0.2 s late": (late, ".wav"),
    "Ogg Vorbis": (unchanged, ".ogg"),
    "MP3": (unchanged, ".mp3"),
    "noise at 30 dB": (noisy, ".wav"),
    "all, in Ogg": (everything, ".ogg"),
    "first 2 s only": (in_part, ".wav"),
}


def make(sources: list[Path], count: int, folder: Path) -> tuple[list[Clip], dict[int, list[Any]]]:
    """`count` clips in `folder`, and `{copy: [original, kind]}` of the planted."""
    originals = count - count // PLANTED
    factors = np.exp(np.linspace(-0.25, 0.25, -(-originals // len(sources)) or 1))
    made, planted = [], {}
    for place in range(count):
        is_copy = place >= originals
        number = (place - originals) if is_copy else place
        samples, rate = audio.read(sources[number % len(sources)])
        sound = samples / 32768
        factor = factors[number // len(sources)] if len(factors) > 1 else 1.0
        if factor != 1.0:
            sound = soxr.resample(sound, rate, rate * factor)
        suffix, kind = ".wav", ""
        if is_copy:
            kind = list(COPIES)[number % len(COPIES)]
            change, suffix = COPIES[kind]
            sound, rate = change(sound, rate)
            planted[place] = [number, kind]
        path = folder / f"{place:06d}{suffix}"
        soundfile.write(path, np.clip(sound, -1, 1), rate)
        made.append(Clip(path, path.name, place % 2, path.name, 1))
    return made, planted


def measure(sources: list[Path], count: int, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        made, planted = make(sources, count, Path(folder))
        catalogue = Catalogue(f"{count} clips", ("a", "b"), tuple(made), True, files=True)
        start, cpu = time.perf_counter(), time.process_time()
        survey = clips.survey(catalogue, threads)
        read, read_cpu = time.perf_counter() - start, time.process_time() - cpu
        start, cpu = time.perf_counter(), time.process_time()
        candidates = len(fingerprint.match(survey.prints).hits)
        match, match_cpu = time.perf_counter() - start, time.process_time() - cpu
        start, cpu = time.perf_counter(), time.process_time()
        pairs = duplicates.find(survey, threads)
        found, found_cpu = time.perf_counter() - start, time.process_time() - cpu
    seen = {(pair.first, pair.second) for pair in pairs}
    wanted = {(original, copy) for copy, (original, _) in planted.items()}
    recall: dict[str, list[bool]] = {kind: [] for kind in COPIES}
    for copy, (original, kind) in planted.items():
        recall[kind].append((original, copy) in seen)
    # Recordings of DIR that share sound do so in copies too: by the recording each clip is made of.
    origin = [planted.get(place, [place])[0] % len(sources) for place in range(count)]
    other = seen - wanted
    return {
        "clips": count,
        "hours": round(sum(figures.seconds for figures in survey.figures) / 3600, 2),
        "read_ms_per_clip": round(1e3 * read / count, 2),
        "read_cpu_ms_per_clip": round(1e3 * read_cpu / count, 2),
        "match_seconds": round(match, 2),
        "match_cpu_seconds": round(match_cpu, 2),
        "match_and_compare_seconds": round(found, 2),
        "match_and_compare_cpu_seconds": round(found_cpu, 2),
        "candidates": candidates,
        "keys": sum(len(keys) for keys, _ in survey.prints),
        "planted": len(planted),
        "found": len(wanted & seen),
        "recall": {kind: [sum(hits), len(hits)] for kind, hits in recall.items()},
        "other_pairs": sorted(
            {tuple(sorted((sources[origin[a]].name, sources[origin[b]].name))) for a, b in other}
        ),
        "missed": [[sources[origin[a]].name, planted[b][1]] for a, b in sorted(wanted - seen)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", default="500,1000,2000,4000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sources = sorted(options.folder.rglob("*.wav"))
    if not sources:
        parser.error(f"{options.folder}: no wav files in it")
    results = []
    print("clips   reading (CPU) ms/clip   matching (CPU) s   with comparing   found of planted")
    for count in map(int, options.counts.split(",")):
        result = measure(sources, count, options.threads)
        results.append(result)
        print(
            f"{count:5d} {result['read_ms_per_clip']:11.1f} ({result['read_cpu_ms_per_clip']:.1f})"
            f" {result['match_seconds']:12.2f} ({result['match_cpu_seconds']:.2f})"
            f" {result['match_and_compare_seconds']:10.2f}"
            f" ({result['match_and_compare_cpu_seconds']:.2f})"
            f" {result['found']:11d} of {result['planted']};"
            f" {len(result['other_pairs'])} other pairs"
        )
        print(f"      {result['recall']}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
