"""What can be told of a data set without listening closely: two baselines on a config's folds.

python -m jaxsound.evaluation.baselines --config=configs/esc50_cnn.py [--json=FILE]

Logistic regression on the length of a clip alone, and on the level and the spread of a few bands
of its stored features. Where the first comes near a network's figure, the network may have learnt
how clips were cut; where the second does, it may have learnt a microphone or a codec. The folds,
and what is trained and tested on, are those of the config's run.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags
from scipy import optimize, special

from jaxsound.config import in_one_line, validate
from jaxsound.data import folds
from jaxsound.errors import command
from jaxsound.evaluation import files
from jaxsound.evaluation.crossval import percent
from jaxsound.features.store import Store
from jaxsound.input.stores import prepare_store
from jaxsound.job import workdir

BANDS = 8  # of neighbouring columns of the features
STRENGTH = 1.0  # C of scikit-learn: inverse of the penalty on squared weights


@command()
def main(argv: list[str]) -> int:
    """Measures the baselines of what the command line names; returns the exit status."""
    # Only now: who imports this module may have flags of these names.
    config_flags.DEFINE_config_file("config", None, "The experiment whose folds are used.")
    output = flags.DEFINE_string("json", None, "Where the figures go as JSON.")
    app.define_help_flags()
    logging.set_verbosity(logging.ERROR)
    with in_one_line(argv):
        flags.FLAGS(argv)
    config = flags.FLAGS.config
    validate(config)
    result = measure(config, prepare_store(config))
    if output.value:
        files.write(Path(output.value), files.to_json(result))
    print(format_table(result))
    return 0


def measure(config: Any, store: Store) -> dict[str, Any]:
    """Accuracy of each baseline on each fold of the config.

    Args:
      config: the whole configuration.
      store: its clips.

    Returns:
      By name of the baseline: accuracy_mean, accuracy_std (over folds, ddof=1) and folds.
    """
    chosen = sorted(set(config.folds)) or workdir.available_folds(store)
    columns = {"most frequent class": None, "duration": durations(store), "bands": bands(store)}
    found: dict[str, dict[int, float]] = {name: {} for name in columns}
    for fold in chosen:
        split = folds.split(store, fold, validation=config.data.validation, seed=config.seed)
        train, test = store.labels[split.train], store.labels[split.test]
        for name, values in columns.items():
            if values is None:
                said = np.full(len(test), np.bincount(train).argmax())
            else:
                said = predicted(values[split.train], train, values[split.test])
            found[name][fold] = float(np.mean(said == test))
    return {name: _over_folds(accuracy) for name, accuracy in found.items()}


def durations(store: Store) -> np.ndarray:
    """[N, 3] float64: the logarithm of a clip's frames, its square and its cube.

    So classes of middling length can be told too, which no straight line would.
    """
    length = np.log(store.lengths)
    return np.stack([length, length**2, length**3], axis=1)


def bands(store: Store) -> np.ndarray:
    """[N, 2 B] float64: mean and standard deviation over time of B bands of a clip's features."""
    parts = np.array_split(np.arange(store.frames.shape[1]), min(BANDS, store.frames.shape[1]))
    rows = []
    for first, end in zip(store.offsets, store.offsets[1:], strict=False):
        frames = store.frames[first:end].astype(np.float64)
        levels = np.stack([frames[:, part].mean(axis=1) for part in parts], axis=1)
        rows.append(np.concatenate([levels.mean(axis=0), levels.std(axis=0)]))
    return np.array(rows)


def predicted(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """`[n]` classes said of `test [n, F]` by a regression on `train [N, F]` and `labels [N]`.

    Columns are standardised by the training clips alone.
    """
    mean, std = train.mean(axis=0), train.std(axis=0)
    scale = np.where(std > 1e-9, std, 1)
    weights, bias = regression((train - mean) / scale, labels)
    said: np.ndarray = ((test - mean) / scale @ weights + bias).argmax(axis=1)
    return said


def regression(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression, scikit-learn's `LogisticRegression(C=STRENGTH)`.

    Args:
      values: [N, F].
      labels: [N]; a class between 0 and the greatest may lack clips, and is then never said.

    Returns:
      Weights [F, C] and biases [C], which are -inf for a class without clips.
    """
    present, label = np.unique(labels, return_inverse=True)
    features, classes = values.shape[1], len(present)
    truth = np.eye(classes)[label]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(features + 1, classes)
        logits = values @ weights[:-1] + weights[-1]
        slope = special.softmax(logits, axis=1) - truth
        cost = special.logsumexp(logits, axis=1).sum() - (truth * logits).sum()
        penalty = np.square(weights[:-1]).sum() / (2 * STRENGTH)
        gradient = np.concatenate(
            [values.T @ slope + weights[:-1] / STRENGTH, slope.sum(axis=0)[None]]
        )
        return float(cost + penalty), gradient.ravel()

    start = np.zeros((features + 1) * classes)
    found = optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-6}
    ).x.reshape(features + 1, classes)
    weights = np.zeros((features, int(present[-1]) + 1))
    bias = np.full(weights.shape[1], -np.inf)
    weights[:, present], bias[present] = found[:-1], found[-1]
    return weights, bias


def format_table(result: Mapping[str, Any]) -> str:
    """The result for a terminal: a line a baseline."""
    wide = max(map(len, result))
    lines = [
        f"{name:<{wide}}  {percent(part['accuracy_mean'])} ± {100 * part['accuracy_std']:.1f} "
        f"over {len(part['folds'])} fold{'s' if len(part['folds']) > 1 else ''}"
        for name, part in result.items()
    ]
    return "\n".join(lines)


def _over_folds(accuracy: Mapping[int, float]) -> dict[str, Any]:
    values = list(accuracy.values())
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"accuracy_mean": float(np.mean(values)), "accuracy_std": spread, "folds": accuracy}


if __name__ == "__main__":
    sys.exit(main(sys.argv))
