"""One wav file of 5 s to probabilities, batch of one, warm, on all cores.

    python benchmarks/inference.py --recordings=DIR

Decoding, resampling from 44.1 to 32 kHz by soxr, log-mel, normalisation, the network of ESC-50's
configuration, softmax. jaxsound reads by its own checked reader and jits the rest into one
function; the peer is PyTorch eager with torch.stft, and the same compiled, for context. Hugging
Face's AST (base size, random weights, its network alone, on 1024 frames of 128 bins) stands beside
the transformer as context where `transformers` is installed.
"""

import argparse
import functools
import importlib.util
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import recordings
import steps
from harness import Contestant, Row, main

CLIPS = 20  # of a run
FileToProbabilities = Callable[[Path], np.ndarray]  # [C]


def rows(args: argparse.Namespace) -> Sequence[Row]:
    """One for each network."""
    root = recordings.esc10(args)
    return [_row(network, root) for network in ("cnn", "transformer")]


def _row(network: str, root: Path) -> Row:
    makers = {
        "jaxsound": functools.partial(_jaxsound, network),
        "torch eager": functools.partial(_torch, network),
        "torch.compile": functools.partial(_torch, network, compiled=True),
    }
    if network == "transformer" and importlib.util.find_spec("transformers"):
        makers["AST of transformers, network alone"] = _ast
    return Row(
        area=f"file to probabilities, {network}",
        unit="s",
        contestants=[
            Contestant(name, functools.partial(_timed, root, maker, 2 if maker is _ast else CLIPS))
            for name, maker in makers.items()
        ],
        goals=(1, *(0 for _ in range(len(makers) - 2))),
        smaller=True,
    )


def _timed(root: Path, maker: Callable[[], FileToProbabilities], clips: int) -> Callable[[], float]:
    paths = itertools.cycle(recordings.files(root))
    predict = maker()

    def run() -> float:
        began = time.perf_counter()
        for path in itertools.islice(paths, clips):
            probabilities = predict(path)
        assert abs(probabilities.sum() - 1) < 1e-3
        return (time.perf_counter() - began) / clips

    return run


def _jaxsound(network: str) -> FileToProbabilities:
    import jax
    import jax.numpy as jnp

    from jaxsound.config import frontend_config
    from jaxsound.data import audio
    from jaxsound.features.frontend import frontend
    from jaxsound.training import state
    from jaxsound.training.step import normalise

    config = steps.configure(network)
    settings = frontend_config(config)
    bins = settings.features
    samples = round(config.data.pad_seconds * settings.sample_rate)
    frames = settings.frames(samples)
    net, params, stats = state.build_network(
        config.model,
        features=bins,
        classes=steps.CLASSES,
        frames=frames,
        key=jax.random.key(0),
    )
    mean, std = jnp.full(bins, -40.0), jnp.full(bins, 15.0)

    @jax.jit
    def classify(waveform: jax.Array, count: jax.Array) -> jax.Array:
        features = frontend(settings, waveform[None], count[None])
        length = jnp.full(1, frames)
        features = normalise(features, length, mean, std)
        logits, _ = net.apply(params, stats, features, length, train=False)
        return jax.nn.softmax(logits[0])

    def predict(path: Path) -> np.ndarray:
        recording, rate = audio.read(path)
        waveform = recording.astype(np.float32) / 32768
        waveform = audio.resample(waveform, rate, settings.sample_rate)[:samples]
        count = np.int32(len(waveform))
        return np.asarray(classify(np.pad(waveform, (0, samples - len(waveform))), count))

    return predict


def _torch(network: str, compiled: bool = False) -> FileToProbabilities:
    import librosa
    import soundfile
    import soxr
    import torch
    import torch_peers

    config = steps.configure(network)
    front, bins = config.frontend, config.frontend.n_mels
    filters = librosa.filters.mel(
        sr=front.sample_rate, n_fft=front.n_fft, n_mels=bins, fmin=front.fmin
    )
    log_mel = torch_peers.LogMel(filters, front.n_fft, front.hop_length)
    frames = 1 + round(5 * front.sample_rate) // front.hop_length
    model = torch_peers.build(config.model, frames, bins, steps.CLASSES).eval()
    mean, std = torch.full((bins,), -40.0), torch.full((bins,), 15.0)

    def classify(waveform: torch.Tensor) -> torch.Tensor:
        return model((log_mel(waveform) - mean) / std).softmax(-1)

    run = torch.compile(classify) if compiled else classify

    def predict(path: Path) -> np.ndarray:
        audio, rate = soundfile.read(path, dtype="float32")
        waveform = soxr.resample(audio, rate, front.sample_rate, quality="HQ")
        with torch.inference_mode():
            return run(torch.from_numpy(waveform)[None])[0].numpy()

    return predict


def _ast() -> FileToProbabilities:
    import torch
    from transformers import ASTConfig, ASTForAudioClassification

    model = ASTForAudioClassification(ASTConfig(num_labels=steps.CLASSES)).eval()
    features = torch.randn(1, model.config.max_length, model.config.num_mel_bins)

    def predict(path: Path) -> np.ndarray:
        with torch.inference_mode():
            return model(features).logits[0].softmax(-1).numpy()

    return predict


if __name__ == "__main__":
    main("inference", __file__, rows)
