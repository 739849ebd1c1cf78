"""What is shared arrives byte for byte, with a true card, and nothing else does."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jaxsound.errors import UserError
from jaxsound.evaluation import crossval
from jaxsound.features.store import Store, open_store
from jaxsound.hub import __main__ as front_door
from jaxsound.hub import card, upload
from tests.hub.fake_hub import TOKEN, FakeHub

huggingface_hub = pytest.importorskip("huggingface_hub")
# Of the client's own way of sending a file where Xet storage is off.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The client of this process talks to a hub on loopback, and knows no other token."""
    fake = FakeHub()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", fake.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    yield fake
    huggingface_hub.close_session()
    fake.close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of two folds on private recordings, with what must not be shared in it."""
    path = tmp_path / "my_run"
    rng = np.random.default_rng(0)
    for fold in (1, 2):
        probabilities = rng.dirichlet(np.ones(3), 12).astype(np.float32)
        result = crossval.FoldResult(
            fold=fold,
            class_names=("dog", "rain", "sea"),
            clip_ids=np.array([f"{fold}-{i}.wav" for i in range(12)]),
            groups=np.array([f"{fold}-{i // 2}" for i in range(12)]),
            labels=np.arange(12) % 3,
            probabilities=probabilities,
            steps=20,
            seconds=3.0,
            clips={"train": 10, "validation": 2, "test": 12},
        )
        crossval.write_fold(path, result)
        for step in (10, 20):
            state = path / f"fold_{fold}" / "checkpoints" / str(step) / "state"
            (state / "d").mkdir(parents=True)
            (state / "d" / "weights").write_bytes(rng.bytes(5000) + b"\0")
            (state / "_METADATA").write_text(json.dumps({"fold": fold, "step": step}))
            (state / "empty").touch()
    config = {
        "data": {"name": "esc50", "subset": "", "manual_dir": "/secret/place", "cache_dir": ""},
        "model": {"name": "cnn"},
    }
    about = {
        "publisher_folds": True,
        "folds_available": [1, 2],
        "config": config,
        "citation": "@inproceedings{somebody}",
        "licence": "CC BY-NC 4.0",
        "homepage": "https://example.org/data",
    }
    crossval.gather(path, [1, 2], about)
    (path / "config.json").write_text(json.dumps({"config": config}))
    (path / "report.html").write_text("<html></html>")
    (path / "notes.txt").write_text("not for others")
    return path


@pytest.fixture
def store(tiny_store: Store, tmp_path: Path) -> Path:
    """A feature store on disk."""
    path = tmp_path / "0123abcd"
    path.mkdir()
    for name in ("frames", "offsets", "labels", "folds", "groups", "clip_ids"):
        np.save(path / f"{name}.npy", getattr(tiny_store, name))
    (path / "clips.jsonl").write_text("{}\n" * len(tiny_store))
    meta = {
        "format": 1,
        "name": "esc50",
        "frontend": dataclasses.asdict(tiny_store.frontend),
        "class_names": list(tiny_store.class_names),
        "publisher_folds": True,
        "left_out": [{"clip": "x", "reason": "broken"}],
        "note": "",
        "citation": "@inproceedings{somebody}",
        "licence": "CC BY-NC 3.0; ESC-10: CC BY 3.0",
        "homepage": "https://example.org/data",
        "clip_seconds": {"min": 1.0, "mean": 2.0, "max": 3.0, "total": 120.0},
        "versions": {"jaxsound": "0"},
    }
    (path / "store.json").write_text(json.dumps(meta))
    (path / "private.txt").write_text("not for others")
    return path


def expected(run: Path) -> set[str]:
    """All that a reader of the model needs: the newest step of each fold, and the result."""
    kept = ("state/d/weights", "state/_METADATA", "state/empty")
    steps = {f"fold_{k}/checkpoints/20/{name}" for k in (1, 2) for name in kept}
    return steps | {"config.json", "crossval.json", "predictions.csv", "report.html"}


def command(hub: FakeHub, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN}
    environment["HF_HUB_DISABLE_XET"] = "1"
    line = [sys.executable, "-m", "jaxsound.hub", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True)


def test_the_command_sends_a_run_byte_for_byte_and_nothing_else(hub: FakeHub, run: Path) -> None:
    done = command(hub, str(run), "--repo=me/my-model", "--private")
    assert done.returncode == 0, done.stderr
    assert f"{hub.address}/models/me/my-model/commit/" in done.stdout
    repo = hub.repos["models/me/my-model"]
    assert repo["private"]
    assert repo["files"].keys() - {".gitattributes", "README.md"} == expected(run)
    for name in expected(run):
        assert repo["files"][name] == (run / name).read_bytes()
        assert f"  {name}\n" in done.stdout
    assert b"/secret/place" not in repo["files"]["README.md"]
    assert "note: config.data.manual_dir='/secret/place'" in done.stdout


def test_a_feature_store_arrives_as_a_data_set_that_opens(
    hub: FakeHub, store: Path, tiny_store: Store, tmp_path: Path
) -> None:
    plan = upload.plan(store, "me/features")
    upload.send(plan)
    files = hub.repos["datasets/me/features"]["files"]
    assert files.keys() - {".gitattributes", "README.md"} == set(upload.STORE_FILES)
    assert files["README.md"].decode() == plan.card
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in files.items():
        (copy / name).write_bytes(content)
    opened = open_store(copy)
    np.testing.assert_array_equal(opened.frames, tiny_store.frames)
    assert (opened.clip_ids == tiny_store.clip_ids).all()


def test_a_second_upload_sends_what_is_new_and_takes_away_what_it_replaces(
    hub: FakeHub, run: Path
) -> None:
    upload.send(upload.plan(run, "me/m"))
    hub.requests.clear()
    upload.send(upload.plan(run, "me/m"))
    assert not [r for r in hub.requests if r.startswith("PUT") or "/commit/" in r]
    for fold in (1, 2):
        checkpoints = run / f"fold_{fold}" / "checkpoints"
        (checkpoints / "20").rename(checkpoints / "5")  # trained anew, for fewer steps
        (checkpoints / "10").rename(checkpoints / "4")
    hub.repos["models/me/m"]["files"]["somebody/else.txt"] = b"kept"
    plan = upload.plan(run, "me/m")
    upload.send(plan)
    now = hub.repos["models/me/m"]["files"].keys()
    assert now - {".gitattributes", "README.md", "somebody/else.txt"} == plan.files.keys()
    assert "somebody/else.txt" in now
    assert "fold_1/checkpoints/5/state/d/weights" in now


def test_a_failed_upload_publishes_nothing_and_the_same_command_goes_on(
    hub: FakeHub, run: Path
) -> None:
    plan = upload.plan(run, "me/m")
    for hub.refuse in ("PUT /objects/", "POST .*/commit/"):
        with pytest.raises(UserError, match=r"^me/m was not published \(.*You may not write"):
            upload.send(plan)
        assert all(repo["files"].keys() == {".gitattributes"} for repo in hub.repos.values())
    hub.refuse = ""
    upload.send(plan)
    assert expected(run) <= hub.repos["models/me/m"]["files"].keys()


def test_private_never_ends_in_a_public_repository(hub: FakeHub, store: Path) -> None:
    hub.repos["datasets/me/open"] = {"private": False, "files": {}}
    with pytest.raises(UserError, match="--repo=me/open is there and public"):
        upload.send(upload.plan(store, "me/open"), private=True)
    assert not hub.repos["datasets/me/open"]["files"]


def test_the_model_card_says_what_the_result_says(hub: FakeHub, run: Path) -> None:
    text = upload.plan(run, "me/my-model").card
    result = json.loads((run / "crossval.json").read_text())
    data = huggingface_hub.ModelCard(text).data
    figures = {r.metric_type: r.metric_value for r in data.eval_results}
    assert figures == {"accuracy": result["accuracy_mean"], "f1": result["macro_f1"]}
    assert (data.library_name, data.license, data.datasets) == (
        "jaxsound",
        "cc-by-nc-4.0",
        ["esc50"],
    )
    low, high = result["ci95"]
    interval = f"{100 * low:.1f} to {100 * high:.1f} %"
    for fact in (crossval.headline(result), interval, result["protocol"], "CC BY-NC 4.0"):
        assert fact in text
    for fact in ("@inproceedings{somebody}", "https://example.org/data", '"name": "cnn"'):
        assert fact in text
    assert "/secret/place" not in text
    assert "published weights" not in text


@pytest.mark.parametrize("where", ["/secret/place/x.safetensors", f"them/ast@{'0' * 40}"])
def test_the_model_card_says_whose_weights_it_began_with(
    hub: FakeHub, run: Path, where: str
) -> None:
    result = json.loads((run / "crossval.json").read_text())
    result["config"]["pretrained"] = {"weights": where, "sha256": "12ab"}
    (run / "crossval.json").write_text(json.dumps(result))
    plan = upload.plan(run, "me/my-model")
    assert "12ab" in plan.card
    is_secret = where.startswith("/")
    assert (where in plan.card) != is_secret
    assert any(where in note for note in plan.notes) == is_secret


def test_a_store_of_samples_is_not_shared(hub: FakeHub, store: Path) -> None:
    meta = json.loads((store / "store.json").read_text())
    meta["frontend"] |= {"kind": "samples", "dtype": "int16"}
    (store / "store.json").write_text(json.dumps(meta))
    np.save(store / "frames.npy", np.load(store / "frames.npy")[:, :1].astype(np.int16))
    with pytest.raises(UserError, match="holds the recordings themselves"):
        upload.plan(store, "me/features")


def test_the_data_set_card_says_what_the_store_says(hub: FakeHub, store: Path) -> None:
    text = upload.plan(store, "me/features").card
    data = huggingface_hub.DatasetCard(text).data
    assert (data.license, data.task_categories) == ("other", ["audio-classification"])
    for fact in (
        "CC BY-NC 3.0; ESC-10: CC BY 3.0",
        "@inproceedings{somebody}",
        '"n_mels": 8',
        "open_store",
        "60 clips",
        "Clips left out (store.json lists them): 1",
    ):
        assert fact in text
    chosen = huggingface_hub.DatasetCard(upload.plan(store, "me/features", "cc0-1.0").card).data
    assert chosen.license == "cc0-1.0"


@pytest.mark.parametrize(
    ("stated", "named"),
    [
        ("CC BY-NC 4.0", "cc-by-nc-4.0"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("CC BY 4.0; single clips: CC0, CC BY or CC BY-NC", "other"),
        ("as jaxsound itself", "apache-2.0"),
        ("the owner's", "other"),
        ("", "other"),
    ],
)
def test_a_licence_is_named_only_where_it_is_that_one(stated: str, named: str) -> None:
    assert card._licence("", {"licence": stated})["license"] == named


def test_a_text_cannot_break_out_of_the_header(run: Path) -> None:
    result = json.loads((run / "crossval.json").read_text())
    result["config"]["data"]["name"] = 'x"\nlicense: mit\n---\n'
    data = huggingface_hub.ModelCard(card.for_run(result, "me/m")).data
    assert data.license == "cc-by-nc-4.0"
    assert data.datasets == [result["config"]["data"]["name"]]


def outcome(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str]:
    """Exit status and stderr of the command, in this process."""
    try:
        status = front_door.main(["hub", "--repo=", "--nodry_run", "--noprivate", *arguments])
    finally:
        front_door.flags.FLAGS.unparse_flags()
    return status, capsys.readouterr().err


def test_a_dry_run_asks_nothing_of_any_host(
    hub: FakeHub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    front_door.main(["hub", str(run), "--repo=me/m", "--dry_run"])
    printed = capsys.readouterr().out
    assert upload.plan(run, "me/m").card in printed
    assert all(f"  {name}\n" in printed for name in expected(run))
    assert hub.requests == []


def test_every_mistake_is_one_line(
    hub: FakeHub,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_text("{}")
    bare = tmp_path / "bare"
    bare.mkdir()

    def refused(words: str, *arguments: str) -> None:
        status, line = outcome(capsys, *arguments)
        assert status == 2
        assert line.startswith("error: ")
        assert words in line
        assert line.count("\n") == 1

    refused("name one run directory or feature store", "--repo=me/m")
    refused("Unknown command line flag", str(run), "--repos=me/m")
    refused("is neither a run directory", str(bare), "--repo=me/m")
    refused("is a run that has not finished", str(unfinished), "--repo=me/m")
    for name in ("", "me", "me/my model", "me/a/b", "me/x.git"):
        refused(f"--repo={name!r} is no name of a repository", str(run), f"--repo={name}")
    hub.refuse = "POST /api/repos/create"
    refused("You may not write here", str(run), "--repo=them/m")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    refused("me/m was not published", str(run), "--repo=me/m")
    monkeypatch.delenv("HF_TOKEN")
    refused("no token for the hub: run `hf auth login`, or set HF_TOKEN", str(run), "--repo=me/m")
    (run / "crossval.json").write_text("{}")
    refused("crossval.json is not of this version's making", str(run), "--repo=me/m")
    (run / "report.html").unlink()
    refused("lacks report.html", str(run), "--repo=me/m")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused("is not installed: pip install 'jaxsound[hub]'", str(run), "--repo=me/m")


def test_a_run_without_a_checkpoint_is_no_model(hub: FakeHub, run: Path) -> None:
    (run / "fold_2" / "checkpoints").rename(run / "elsewhere")
    with pytest.raises(UserError, match="fold_2/checkpoints holds no checkpoint"):
        upload.plan(run, "me/m")
