"""An export says what its checkpoint says, in its own runtime; what would not is not kept."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

import jaxsound
from jaxsound import export
from jaxsound.serving.classifier import Classifier
from jaxsound.serving.exporting import artefact, verification
from tests.serving.conftest import NAMES, RATE, sound

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]
WITHIN = 5e-5  # a float16 that is rounded the other way in one cell makes most of it


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")


@pytest.fixture
def unproved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison, which compiles for seconds, is left out."""
    monkeypatch.setattr(verification, "difference", lambda *_: 0.0)


def said(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    status = export.main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return status, out, err


def by_jax(path: Path) -> Run:
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    assert exported.platforms == ("cpu", "cuda")
    return lambda waveform, samples: np.asarray(exported.call(waveform, samples))


def by_tensorflow(path: Path) -> Run:
    tf = pytest.importorskip("tensorflow")
    scores = tf.saved_model.load(str(path)).signatures["serving_default"]
    return lambda waveform, samples: scores(
        waveform=tf.constant(waveform), samples=tf.constant(samples)
    )["probabilities"].numpy()


def by_tflite(path: Path) -> Run:
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    runner = litert.Interpreter(model_path=str(path)).get_signature_runner()
    return lambda waveform, samples: runner(waveform=waveform, samples=samples)["probabilities"]


def by_onnxruntime(path: Path) -> Run:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path))
    assert session.get_inputs()[0].shape == ["batch", RATE]
    return lambda waveform, samples: session.run(
        ["probabilities"], {"waveform": waveform, "samples": samples}
    )[0]


RUNTIMES = {
    "stablehlo": by_jax,
    "saved_model": by_tensorflow,
    "tflite": by_tflite,
    "onnx": by_onnxruntime,
}
NEEDED = {"tflite": ("ai_edge_litert",), "onnx": ("onnxruntime", "tf2onnx")}


@pytest.fixture(scope="module")
def folds(run: Path) -> Classifier:
    """One for all formats, since it compiles for seconds."""
    return jaxsound.load(run)


@pytest.fixture(scope="module")
def heard(folds: Classifier) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips of several lengths, and what the checkpoint says of them."""
    clips = [sound(seconds, seed=i) for i, seconds in enumerate((1.0, 0.3, 0.05, 1.0, 0.71))]
    samples = np.array([len(clip) for clip in clips], np.int32)
    waveform = np.full((len(clips), RATE), 0.9, np.float32)  # past a clip's end, not to be heard
    for row, clip in zip(waveform, clips, strict=True):
        row[: len(clip)] = clip
    expected = np.concatenate([folds.score([clip])[0] for clip in clips])
    assert np.ptp(expected, axis=0).max() > 1e-3  # the clips do differ
    return waveform, samples, expected


@pytest.mark.parametrize("to", artefact.FORMATS)
def test_it_says_what_the_checkpoint_says(
    to: str,
    folds: Classifier,
    heard: tuple[np.ndarray, np.ndarray, np.ndarray],
    tmp_path: Path,
) -> None:
    for package in NEEDED.get(to, ()):
        pytest.importorskip(package)
    out = tmp_path / "new" / "model"
    artefact.export(folds, out, to)
    assert sorted(path.name for path in out.parent.iterdir()) == ["model", "model.json"]
    about = json.loads((out.parent / "model.json").read_text())
    assert about["classes"] == list(NAMES)
    assert (about["sample_rate"], about["window"], about["folds"]) == (RATE, RATE, 2)
    assert about["verified"]["max_difference"] < WITHIN

    scores = RUNTIMES[to](out)
    waveform, samples, expected = heard
    np.testing.assert_allclose(scores(waveform, samples), expected, atol=WITHIN)
    for i in range(len(samples)):
        alone = scores(waveform[i : i + 1], samples[i : i + 1])
        np.testing.assert_allclose(alone, expected[i : i + 1], atol=WITHIN)


@pytest.mark.usefixtures("unproved")
def test_an_earlier_export_is_replaced_and_nothing_else(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert said(capsys, run / "fold_1", out, "--to=stablehlo")[0] == 0
    status, printed, _ = said(capsys, run, out, "--to=stablehlo")
    assert status == 0
    assert "at most 0.0e+00 from the checkpoint in probability" in printed
    assert json.loads((tmp_path / "model.json").read_text())["folds"] == 2
    for name, other in (("thesis", "thesis"), ("thesis2", "thesis2.json")):
        (tmp_path / other).write_text("five years of work")
        status, printed, error = said(capsys, run, tmp_path / name, "--to=stablehlo")
        assert (status, printed) == (2, "")
        assert error.count("\n") == 1
        assert str(tmp_path / other) in error
        assert (tmp_path / other).read_text() == "five years of work"


@pytest.mark.parametrize("difference", [2e-4, float("nan")])
def test_what_differs_is_not_kept(
    difference: float,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verification, "difference", lambda *_: difference)
    status, printed, error = said(capsys, run / "fold_1", tmp_path / "model", "--to=stablehlo")
    assert (status, printed) == (2, "")
    assert error.count("\n") == 1
    assert f"{difference:.1e} from the checkpoint's" in error
    assert not list(tmp_path.iterdir())


def test_it_is_compared_on_the_recordings_that_are_named(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[np.ndarray] = []
    monkeypatch.setattr(
        verification, "difference", lambda _classifier, _run, clips: heard.extend(clips) or 0.0
    )
    files = [tmp_path / "long.wav", tmp_path / "short.wav"]
    for file, seconds in zip(files, (2.5, 0.25), strict=True):
        soundfile.write(file, sound(seconds, 22050), 22050)
    command = (run / "fold_1", tmp_path / "model", "--to=stablehlo", "--verify", *files)
    status, printed, _ = said(capsys, *command)
    assert status == 0
    assert [len(clip) for clip in heard] == [RATE] * 4 + [RATE // 4]
    assert "5 clips" in printed
    files[1].write_bytes(b"no sound")
    status, _, error = said(capsys, *command)
    assert (status, error.count("\n")) == (2, 1)
    assert "short.wav" in error


def test_a_missing_package_is_named_with_its_extra(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "jaxsound.serving.exporting.onnx", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    status, _, error = said(capsys, run, tmp_path / "model", "--to=onnx")
    assert (status, error.count("\n")) == (2, 1)
    assert "onnxruntime" in error
    assert "jaxsound[export]" in error
    assert not list(tmp_path.iterdir())


def test_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, error = said(capsys, tmp_path, tmp_path / "model", "--to=stablehlo")
    assert (status, error.count("\n")) == (2, 1)
    assert "no checkpoint here" in error
