"""From recordings to features: log-mels on one thread, and files to a feature store on all cores.

    python benchmarks/preparation.py --recordings=DIR

Without --recordings, the same number of synthesised files. Log-mels (128 bins of 1024 samples,
every 320, at 32 kHz) are computed clip by clip on one core, from waveforms in memory; jaxsound's
must equal librosa's within 0.001 dB, or the row is refused. Files to features is from wav at 44.1
kHz: every round starts from nothing, in processes that have compiled already; jaxsound checks and
keeps the recordings and writes a store that can be resumed, the peers save one array.
"""

import argparse
import concurrent.futures
import functools
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import recordings
from harness import Contestant, Row, main, note, scratch

RATE, N_FFT, HOP, MELS, FMIN, TOP_DB = 32000, 1024, 320, 128, 0.0, 80.0
LIMIT = 1e-3  # dB
CLIPS = 100  # of the first row
Features = Callable[[np.ndarray], np.ndarray]  # [N] float32 -> [T, M] float32
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}


def rows(args: argparse.Namespace) -> Sequence[Row]:
    """Log-mels; files to features."""
    root = recordings.esc10(args)
    makers = {"jaxsound": jaxsound_log_mel, "librosa": librosa_log_mel, "torch.stft": torch_log_mel}
    pools = {"librosa": librosa_file, "soundfile + soxr + torch.stft": torch_file}
    return [
        Row(
            area=f"log-mel of 5 s, one thread, within {LIMIT:g} dB of librosa",
            unit="clips/s",
            contestants=[
                Contestant(name, functools.partial(_log_mels, root, maker), ONE_THREAD)
                for name, maker in makers.items()
            ],
            goals=(3, 1.25),
        ),
        Row(
            area="wav files at 44.1 kHz to features, all cores",
            unit="clips/s",
            contestants=[
                Contestant("jaxsound prepare + precompute", functools.partial(_store, root)),
                *(
                    Contestant(
                        f"{name}, {_cores()} processes",
                        functools.partial(_pool, root, function),
                        ONE_THREAD,
                    )
                    for name, function in pools.items()
                ),
            ],
            goals=(2, 0),
            rounds=5,
        ),
    ]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _log_mels(root: Path, maker: Callable[[], Features]) -> Callable[[], float]:
    """Clips/s of log-mels, one clip after another, in this one thread."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    paths = recordings.files(root)
    clips = [read(path) for path in paths[:: max(1, len(paths) // CLIPS)]]
    features = maker()
    reference = librosa_log_mel()
    if maker is not librosa_log_mel:
        difference = max(np.abs(features(clip) - reference(clip)).max() for clip in clips)
        side = maker.__name__.partition("_")[0]
        note(f"{side} is at most {difference:.1e} dB off librosa over {len(clips)} clips")
        if maker is jaxsound_log_mel and not difference <= LIMIT:
            raise SystemExit(f"jaxsound is {difference:.1e} dB off librosa, more than {LIMIT:g}")

    def run() -> float:
        began = time.perf_counter()
        for clip in clips:
            features(clip)
        return len(clips) / (time.perf_counter() - began)

    return run


def read(path: Path) -> np.ndarray:
    """A recording at 32 kHz, [N] float32: decoded by libsndfile, resampled by soxr."""
    import soundfile
    import soxr

    audio, rate = soundfile.read(path, dtype="float32")
    return np.ascontiguousarray(soxr.resample(audio, rate, RATE, quality="HQ"))


def jaxsound_log_mel() -> Features:
    """As the feature store calls it: a clip at a time, jitted."""
    from jaxsound.features.frontend import FrontendConfig, frontend

    config = FrontendConfig(
        sample_rate=RATE,
        n_fft=N_FFT,
        hop_length=HOP,
        n_mels=MELS,
        fmin=FMIN,
        top_db=TOP_DB,
        dtype="float32",
    )

    def features(clip: np.ndarray) -> np.ndarray:
        return np.asarray(frontend(config, clip[None], np.array([len(clip)], np.int32)))[0]

    return features


def librosa_log_mel() -> Features:
    """librosa's melspectrogram and power_to_db."""
    import librosa

    def features(clip: np.ndarray) -> np.ndarray:
        mel = librosa.feature.melspectrogram(
            y=clip, sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=MELS, fmin=FMIN
        )
        return librosa.power_to_db(mel, top_db=TOP_DB).T

    return features


def torch_log_mel() -> Features:
    """torch.stft, the mel matrix and log10, in float32."""
    import librosa
    import torch
    import torch_peers

    torch.set_num_threads(1)
    filters = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=MELS, fmin=FMIN)
    log_mel = torch_peers.LogMel(filters, N_FFT, HOP, TOP_DB)

    def features(clip: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return log_mel(torch.from_numpy(clip)).numpy()

    return features


def _store(root: Path) -> Callable[[], float]:
    """Clips/s of jaxsound's preparation into a fresh cache."""
    from jaxsound.config import default_config
    from jaxsound.data.dataset import prepare
    from jaxsound.features.frontend import FrontendConfig
    from jaxsound.features.store import precompute

    frontend = FrontendConfig(sample_rate=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=MELS, fmin=FMIN)
    data = default_config("cnn").data
    data.name, data.subset, data.partial = "esc50", "esc10", True
    data.manual_dir = str(root)
    shares: list[float] = []

    def run() -> float:
        cache = scratch()
        data.cache_dir = str(cache)
        began = time.perf_counter()
        dataset = prepare(data)
        middle = time.perf_counter()
        clips = len(precompute(dataset, frontend, cache, progress=False))
        end = time.perf_counter()
        shutil.rmtree(cache)
        shares.append((middle - began) / (end - began))
        if len(shares) == 2:  # the first run compiles
            note(f"{shares[1]:.0%} of jaxsound's time goes into checking and keeping recordings")
        return clips / (end - began)

    return run


def _pool(root: Path, function: Callable[[Path], np.ndarray]) -> Callable[[], float]:
    """Clips/s of a process for each core, that load and transform a file at a time."""
    paths = recordings.files(root)
    pool = concurrent.futures.ProcessPoolExecutor(
        _cores(), mp_context=multiprocessing.get_context("spawn")
    )
    folder = scratch()

    def run() -> float:
        began = time.perf_counter()
        features = np.stack(list(pool.map(function, paths, chunksize=10)))
        np.save(folder / "features.npy", features)
        return len(paths) / (time.perf_counter() - began)

    return run


@functools.cache
def _made(maker: Callable[[], Features]) -> Features:
    return maker()


def librosa_file(path: Path) -> np.ndarray:
    """A file's features by librosa alone, [T, M] float16."""
    import librosa

    clip, _ = librosa.load(path, sr=RATE)
    return _made(librosa_log_mel)(clip).astype(np.float16)


def torch_file(path: Path) -> np.ndarray:
    """A file's features by soundfile, soxr and torch, [T, M] float16."""
    return _made(torch_log_mel)(read(path)).astype(np.float16)


if __name__ == "__main__":
    main("preparation", __file__, rows)
