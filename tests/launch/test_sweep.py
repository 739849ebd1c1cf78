"""launch/sweep.py: every run once, in its own place; the test folds choose nothing."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "launch" / "sweep.py"

# Writes what a run leaves. Validation accuracy is the rate's own, the test accuracy its opposite.
FAKE = """
import json, sys
from pathlib import Path
flags = dict(flag[2:].split("=", 1) for flag in sys.argv[1:])
place, log = Path(flags["workdir"]), Path(__file__).with_name("log")
with log.open("a") as file:
    file.write(json.dumps(flags) + "\\n")
if Path(__file__).with_name("fail_at").exists():
    if len(log.read_text().splitlines()) == int(Path(__file__).with_name("fail_at").read_text()):
        sys.exit(75)
rate, seed = float(flags["config.optimizer.peak_lr"]), int(flags["config.seed"])
for fold in (1, 2):
    (place / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
    found = rate + seed / 100 + fold / 1000
    lines = [{"step": 5, "validation/accuracy": 0.99}, {"step": 10, "validation/accuracy": found}]
    text = "".join(json.dumps(line) + "\\n" for line in lines)
    (place / f"fold_{fold}" / "metrics.jsonl").write_text(text)
    record = {"fold": fold, "steps": 12, "accuracy": 1 - rate, "extra": {"weights_step": 10}}
    (place / f"fold_{fold}.json").write_text(json.dumps(record))
"""
CONFIG = """
from jaxsound.config import apply_argument, default_config
def get_config(arg=""):
    config = default_config("cnn")
    apply_argument(config, arg)
    return config
def sweep():
    return [{"optimizer.peak_lr": rate} for rate in (0.25, 0.5, 0.375)]
"""


@pytest.fixture(scope="module")
def sweep() -> Any:
    spec = importlib.util.spec_from_file_location("sweep", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config(sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "config.py").write_text(CONFIG)
    monkeypatch.setattr(sweep, "PROGRAM", [sys.executable, str(tmp_path / "fake.py")])
    return tmp_path / "config.py"


def run(sweep: Any, config: Path, *args: str) -> int:
    given = [f"--config={config}", f"--workdir={config.parent / 'sweep'}", *args]
    return int(sweep.main(given))


def calls(config: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (config.parent / "log").read_text().splitlines()]


def test_every_variant_and_seed_is_a_run_of_its_own(sweep: Any, config: Path) -> None:
    assert run(sweep, config, "--seeds=0,7", "--", "--config.folds=(1,2)") == 0
    made = calls(config)
    assert len(made) == 6
    assert len({flags["workdir"] for flags in made}) == 6
    pairs = {(flags["config.optimizer.peak_lr"], flags["config.seed"]) for flags in made}
    assert len(pairs) == 6
    assert [flags["config.seed"] for flags in made] == ["0"] * 3 + ["7"] * 3
    assert {flags["config.folds"] for flags in made} == {"(1,2)"}


def test_validation_chooses_and_the_test_folds_are_told_of_the_chosen_alone(
    sweep: Any, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(sweep, config, "--seeds=0,2") == 0
    result = json.loads((config.parent / "sweep" / "sweep.json").read_text())
    assert result["chosen"] == "optimizer.peak_lr=0.5"  # on the test folds it is the worst
    assert result["chosen_test"]["mean"] == pytest.approx(0.5)
    first, second, third = result["variants"]
    assert first["validation"]["mean"] == pytest.approx(0.25 + 0.01 + 0.0015)
    assert first["validation"]["std"] == pytest.approx(0.02 / 2**0.5)
    assert second["difference"] == {"mean": pytest.approx(0.25), "std": pytest.approx(0)}
    assert third["difference"]["mean"] == pytest.approx(0.125)
    said = capfd.readouterr().out
    assert "chosen by validation/accuracy: optimizer.peak_lr=0.5" in said
    assert "75.0" not in json.dumps(result) + said  # the test accuracy of the first variant
    assert "0.75" not in json.dumps(result)


def test_a_sweep_that_was_stopped_goes_on(
    sweep: Any, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (config.parent / "fail_at").write_text("2")
    assert run(sweep, config) == 75
    assert "optimizer.peak_lr=0.5, seed 0: status 75" in capfd.readouterr().out
    assert not (config.parent / "sweep" / "sweep.json").exists()
    assert len(calls(config)) == 2
    assert run(sweep, config) == 0
    assert (config.parent / "sweep" / "sweep.json").exists()


def test_folds_that_differ_are_not_compared(
    sweep: Any, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stray = config.parent / "sweep" / "optimizer.peak_lr=0.5" / "seed_0"
    (stray / "fold_3").mkdir(parents=True)
    line = json.dumps({"step": 1, "validation/accuracy": 1.0})
    (stray / "fold_3" / "metrics.jsonl").write_text(line + "\n")
    record = {"fold": 3, "steps": 1, "accuracy": 1.0, "extra": {}}
    (stray / "fold_3.json").write_text(json.dumps(record))
    assert run(sweep, config) == 2
    assert "have finished different seeds or folds" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("variants", "why"),
    [
        ('[{"optimizer.peak_rl": 1.0}]', "peak_rl"),
        ('[{"optimizer.peak_lr": -1.0}]', "config.optimizer.peak_lr=-1.0"),
        ('[{"eval_every": 0}]', "must be above 0: variants are compared on the validation split"),
        ('[{"seed": 3}]', "the seeds are --seeds"),
        ("[{}, {}]", "has the variant base twice"),
        ("[]", "sweep() is empty"),
    ],
)
def test_a_variant_that_cannot_be_is_refused_before_any_run(
    sweep: Any, config: Path, capfd: pytest.CaptureFixture[str], variants: str, why: str
) -> None:
    config.write_text(CONFIG.partition("def sweep")[0] + f"def sweep():\n    return {variants}\n")
    assert run(sweep, config) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert why in line
    assert not (config.parent / "log").exists()


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("--config.optimizer.peak_lr=1.0", "sweep() sets this key"),
        ("--config.eval_every=0", "set it in the config file"),
        ("--config.data.validation=0", "set it in the config file"),
    ],
)
def test_a_flag_that_would_undo_the_comparison_is_refused(
    sweep: Any, config: Path, capfd: pytest.CaptureFixture[str], flag: str, why: str
) -> None:
    assert run(sweep, config, "--", flag) == 2
    assert f"error: {flag}: {why}" in capfd.readouterr().err
    assert not (config.parent / "log").exists()


def test_a_config_without_a_sweep_is_refused(
    sweep: Any, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG.partition("def sweep")[0])
    assert run(sweep, config) == 2
    assert "has no sweep()" in capfd.readouterr().err
    for wrong in ("--seeds=a", "--seeds=1,1"):
        with pytest.raises(SystemExit):
            run(sweep, config, wrong)
    with pytest.raises(SystemExit):
        run(sweep, config, "--", "--config.seed=1")


def test_names_are_names_of_folders(sweep: Any) -> None:
    assert sweep.name_of({}) == "base"
    name = sweep.name_of({"model.channels": (8, 16), "data.subset": "a/b"})
    assert name == "model.channels=_8,_16_,data.subset=a_b"
