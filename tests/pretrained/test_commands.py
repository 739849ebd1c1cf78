"""A fine-tune of each network is trained, killed, resumed and used like any other run."""

import csv
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

import jaxsound
from jaxsound import export, predict, train
from jaxsound.config import validate
from jaxsound.models import efficientnet, resnet
from jaxsound.serving.classifier import Classifier
from jaxsound.training.progress import Progress
from jaxsound.training.restore import restore
from tests.pretrained import test_ast, test_htsat, test_pictures, test_wav2vec2
from tests.pretrained.originals import transformers
from tests.test_config import CONFIGS, load
from tests.tiny import lines_alone

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("safetensors", reason="needs the extra 'hub'")
from tests.serving.server.conftest import serving

AST: dict[str, Any] = {"width": 16, "depth": 1, "heads": 2}
HTSAT = {"width": 8, "depths": (2, 1), "heads": (2, 4), "window": 4}
SOUNDS = {"dog": "0", "rain": "10", "chainsaw": "41"}  # and their numbers in ESC-50
SECONDS = 1.0
SHORT = {"data.pad_seconds": SECONDS, "data.crop_seconds": 0.0}
FILLED = {"data.pad_seconds": SECONDS, "frontend.seconds": SECONDS}
FIRST, KILLED_AT, LAST = 3, 4, 6  # steps: of an epoch, within the second, and of both


@dataclasses.dataclass(frozen=True)
class Case:
    """A config, the original whose weights it begins with, and what makes both small."""

    config: str
    original: Callable[[], Any]
    changes: dict[str, Any]


CASES = {
    "ast": Case(
        "ast_audio_folder",
        lambda: test_ast.original(**AST, frames=120, bins=128),
        SHORT | {f"model.{key}": value for key, value in AST.items()},
    ),
    "htsat": Case(
        "clap_audio_folder",
        lambda: test_htsat.original({"bins": 64, **HTSAT}),
        FILLED | {f"model.{key}": value for key, value in HTSAT.items()},
    ),
    "wav2vec2": Case(
        "wav2vec2_audio_folder",
        lambda: test_wav2vec2.original("Wav2Vec2", test_wav2vec2.SIZES["small"]),
        SHORT
        | {"model.position_groups": 4, "model.hidden": 16}
        | {f"model.{key}": value for key, value in test_wav2vec2.SIZES["small"].items()},
    ),
    "resnet": Case(
        "resnet18_imagenet_audio_folder",
        lambda: test_pictures.resnet_original((1, 1), deep=False),
        SHORT | {"frontend.n_mels": 32},
    ),
    "efficientnet": Case(
        "efficientnet_b0_instruments",
        lambda: test_pictures.efficientnet_original(test_pictures.SMALL),
        SHORT | {"frontend.n_mels": 32},
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _lines_alone() -> Iterator[None]:
    with lines_alone():
        yield


@pytest.fixture(scope="module")
def clips(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of three classes, with ten clips of a second."""
    folder = tmp_path_factory.mktemp("clips")
    for name, number in SOUNDS.items():
        (folder / name).mkdir()
        found = sorted((recordings / "ESC-50-master" / "audio").glob(f"*-{number}.wav"))[:10]
        assert len(found) == 10
        for path in found:
            samples, rate = soundfile.read(path, dtype="int16", stop=44100)
            soundfile.write(folder / name / path.name, samples, rate)
    return folder


def killed_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kills the first run in its second epoch; lists all steps taken."""
    stepped, taken = Progress.stepped, []

    def step_or_die(self: Progress, step: int, metrics: Any, count: int = 1) -> None:
        stepped(self, step, metrics, count)
        taken.append(step)
        if taken == [*range(1, KILLED_AT + 1)]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "stepped", step_or_die)
    return taken


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_trained_killed_resumed_and_used(
    case: Case,
    clips: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("JAXSOUND_CACHE", str(cache))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.setattr(resnet, "STAGES", {18: (1, 1)})
    monkeypatch.setattr(efficientnet, "STAGES", test_pictures.SMALL)
    transformers.utils.logging.disable_progress_bar()
    case.original().save_pretrained(tmp_path / "weights")
    config = load(CONFIGS / "pretrained" / f"{case.config}.py", "fold=1")
    settings = {
        "epochs": 2,
        "batch_size": 8,
        "checkpoint_every": 1,
        "data.manual_dir": str(clips),
        "data.validation": 0.0,
        "pretrained.weights": str(tmp_path / "weights"),
        "pretrained.sha256": "",
    }
    config.update_from_flattened_dict(settings | case.changes)
    validate(config)
    run = tmp_path / "run"
    taken = killed_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train.run(config, run)
    assert "new: head" in " ".join(capsys.readouterr().err.split())
    train.run(config, run)
    assert taken == [*range(1, KILLED_AT + 1), *range(FIRST + 1, LAST + 1)]
    assert restore(run / "fold_1").step == LAST

    with (run / "predictions.csv").open() as file:
        row = next(csv.DictReader(file))
    wav = next(clips.rglob(Path(row["clip"]).name))
    wanted = {name: float(row[f"p_{name}"]) for name in SOUNDS}
    capsys.readouterr()
    assert predict.main([str(run), str(wav), "--format=json", "--top=3"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    heard = {best["class"]: best["probability"] for best in found["classes"]}
    assert heard == pytest.approx(wanted, abs=1e-3)

    classifier = jaxsound.load(run)
    with serving(Classifier(classifier.models, (1,))) as served:
        answer = served.post(wav.read_bytes())
    assert answer.status_code == 200
    heard = {score["label"]: score["probability"] for score in answer.json()["classes"]}
    assert heard == pytest.approx(wanted, abs=1e-3)

    assert export.main([str(run), str(tmp_path / "x"), "--to=stablehlo", f"--verify={wav}"]) == 0
    assert "from the checkpoint in probability" in capsys.readouterr().out
