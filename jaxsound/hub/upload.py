"""What is shared of a run or a feature store, and how it gets to the hub.

The files of a plan go up in one commit: a reader sees all of it or none, and a failed upload is
simply started again. What had arrived before is not sent twice.
"""

import dataclasses
import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsound.errors import UserError
from jaxsound.features.frontend import SAMPLES
from jaxsound.features.store import open_store
from jaxsound.hub import card
from jaxsound.pretrained.files import on_hub

RUN_FILES = ("config.json", "crossval.json", "predictions.csv", "report.html")
STORE_FILES = (
    "store.json",
    *(f"{name}.npy" for name in ("frames", "offsets", "labels", "folds", "groups", "clip_ids")),
    "clips.jsonl",
)
_OURS = re.compile(r"fold_\d+/checkpoints/\d+/")


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that will be sent, and nothing else is: `files` (path there -> path here) and the card.

    `notes` are what the owner should know before others do.
    """

    kind: str  # "model" or "dataset"
    repo: str
    files: Mapping[str, Path]
    card: str
    notes: tuple[str, ...]

    def listing(self) -> str:
        """The files with their sizes in bytes, for a terminal."""
        sizes = {name: path.stat().st_size for name, path in self.files.items()}
        sizes["README.md"] = len(self.card.encode())
        lines = [f"{size:>15,}  {name}" for name, size in sorted(sizes.items())]
        total = f"{sum(sizes.values()):>15,}  bytes in {len(sizes)} files for {self.kind}"
        return "\n".join([*lines, f"{total} {self.repo}", *(f"note: {n}" for n in self.notes)])


def plan(path: Path, repo: str, licence: str = "") -> Plan:
    """What would be sent of a finished run or a complete feature store.

    Args:
      path: a run directory (it has `crossval.json`) or a feature store (it has `store.json`).
      repo: "USER/NAME".
      licence: the hub's name of one, such as "cc-by-4.0"; "" takes the data set's.

    Raises:
      UserError: the extra is not installed, a name is not one, or the path is neither.
    """
    _check_name(repo)
    path = path.expanduser()
    if (path / "store.json").is_file():
        store = open_store(path)
        if store.frontend.kind == SAMPLES:
            raise UserError(f"{path} holds the recordings themselves; only features are shared")
        _require(path, STORE_FILES)
        text = card.for_store(store, repo, licence)
        files = {name: path / name for name in STORE_FILES}
        return Plan("dataset", repo, files, text, ("clips.jsonl names every clip",))
    if (path / "crossval.json").is_file():
        return _plan_run(path, repo, licence)
    if (path / "config.json").is_file():
        raise UserError(f"{path} is a run that has not finished: the command that began it goes on")
    raise UserError(
        f"{path} is neither a run directory (no crossval.json) nor a feature store (no store.json)"
    )


def _plan_run(path: Path, repo: str, licence: str) -> Plan:
    files = {name: path / name for name in RUN_FILES}
    try:
        result = json.loads((path / "crossval.json").read_bytes())
        if result.get("task"):
            raise UserError(f"{path} is a run with task={result['task']!r}; only classifiers go up")
        _require(path, RUN_FILES)
        text = card.for_run(result, repo, licence)
        folds, config = [fold["fold"] for fold in result["folds"]], result["config"]
        data = config["data"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path / 'crossval.json'} is not of this version's making or not whole "
            f"({type(error).__name__}: {error})"
        ) from None
    for fold in folds:
        newest = _newest(path / f"fold_{fold}" / "checkpoints")
        for file in sorted(newest.rglob("*")):
            if file.is_file():
                files[file.relative_to(path).as_posix()] = file
    notes = [
        f"config.data.{key}={data[key]!r} of this machine can be read in these files"
        for key in ("manual_dir", "cache_dir")
        if data.get(key)
    ]
    weights = config.get("pretrained", {}).get("weights", "")
    if weights and not on_hub(weights):
        notes.append(f"config.pretrained.weights={weights!r} of this machine can be read in them")
    notes.append("predictions.csv names every test clip")
    return Plan("model", repo, files, text, tuple(notes))


def _newest(checkpoints: Path) -> Path:
    steps = [p for p in checkpoints.glob("*") if p.name.isdecimal() and p.is_dir()]
    if not steps:
        raise UserError(f"{checkpoints} holds no checkpoint; without it there is no model to share")
    return max(steps, key=lambda p: int(p.name))


def _require(path: Path, names: tuple[str, ...]) -> None:
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; nothing is shared in part")


def _check_name(repo: str) -> None:
    hub = _import()
    try:
        hub.utils.validate_repo_id(repo)
        valid = repo.count("/") == 1
    except ValueError:
        valid = False
    if not valid:
        raise UserError(
            f"--repo={repo!r} is no name of a repository: USER/NAME, of letters, digits, "
            "'-', '_' and '.', 96 at most"
        )


def _import() -> Any:
    try:
        hub = importlib.import_module("huggingface_hub")
        importlib.import_module("huggingface_hub.utils")
    except ImportError:
        raise UserError(
            "the Hugging Face hub's client is not installed: pip install 'jaxsound[hub]'"
        ) from None
    return hub


def send(plan: Plan, *, private: bool = False) -> str:
    """Makes the repository, if it is not there, and sends the plan's files in one commit.

    Checkpoints of an earlier upload that are not part of this one go: a reader takes the newest
    step that it finds. The client shows its progress on stderr.

    Args:
      plan: what to send.
      private: make the repository private; one that is there and public is refused.

    Returns:
      The address of the commit.

    Raises:
      UserError: no token, a refusal or a failure on the way.
    """
    hub = _import()
    if not hub.get_token():
        raise UserError("no token for the hub: run `hf auth login`, or set HF_TOKEN")
    try:
        return _send(hub, plan, private)
    except UserError:
        raise
    except Exception as error:  # the client's own, its HTTP library's, RuntimeError, ValueError
        why = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        reason = " ".join(str(why).split())[:300] or type(why).__name__
        raise UserError(
            f"{plan.repo} was not published ({reason}); the same command tries again"
        ) from error


def _send(hub: Any, plan: Plan, private: bool) -> str:
    api = hub.HfApi()
    where = {"repo_id": plan.repo, "repo_type": plan.kind}
    api.create_repo(**where, private=True if private else None, exist_ok=True)
    if private and not api.repo_info(**where).private:
        raise UserError(f"--repo={plan.repo} is there and public: make it private, or name another")
    card = hub.CommitOperationAdd("README.md", plan.card.encode())
    files = [hub.CommitOperationAdd(name, path) for name, path in plan.files.items()]
    superseded = [
        hub.CommitOperationDelete(name)
        for name in api.list_repo_files(**where)
        if _OURS.match(name) and name not in plan.files
    ]
    commit = api.create_commit(
        **where,
        operations=[card, *files, *superseded],
        commit_message=f"jaxsound {plan.kind}",
    )
    return str(commit.commit_url)
