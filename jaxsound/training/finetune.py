"""What fine-tuning trains, and how fast: frozen parts, rates by layer, the classifier first.

Parameters are named by their path, such as `blocks.0.qkv.kernel`.
"""

import fnmatch
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxsound.errors import UserError

_NEW = ("hidden", "head", "lora_query", "lora_value")  # what no publisher's weights began
_LAST = ("norm", "head_norm", "last", "hidden", "score", "head")  # after every block
_BLOCKS = ("blocks", "stages", "segments")


def names(params: Any) -> list[str]:
    """The path of each leaf, in the tree's order."""
    return [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]


def frozen(config: Any, params: Any) -> Any:
    """Which parameters keep their values: a tree of bool.

    Args:
      config: the `pretrained` section; a path that a pattern of `freeze` matches is frozen unless
        one of `unfreeze` matches it too. `*` stands for anything, dots included.
      params: a tree with the network's paths.
    """

    def kept(path: Any, _: Any) -> bool:
        name = _name(path)
        return _any(config.freeze, name) and not _any(config.unfreeze, name)

    return jax.tree_util.tree_map_with_path(kept, params)


def hold(config: Any, params: Any) -> Any:
    """The same values; the frozen ones have a gradient of zero, which costs no backward pass."""
    if not config.freeze:
        return params

    def stopped(keep: bool, value: Any) -> Any:
        return jax.lax.stop_gradient(value) if keep else value

    return jax.tree.map(stopped, frozen(config, params), params)


def rates(config: Any, params: Any) -> Any:
    """What multiplies each parameter's learning rate: a tree of float.

    `layer_decay` for each layer between a parameter and the network's end, and `head_rate` for the
    classifier. Layers are the network's blocks; what comes before them is one more, and so is what
    comes after (as for ViT by Bao et al., 2021).
    """
    depth = max((_layer(name) or 0 for name in names(params)), default=0) + 1

    def rate(path: Any, _: Any) -> float:
        name = _name(path)
        layer = _layer(name)
        below = depth - (depth if layer is None else layer)
        head = config.head_rate if name.split(".")[0] == "head" else 1.0
        return float(config.layer_decay**below * head)

    return jax.tree_util.tree_map_with_path(rate, params)


def adapted(
    optimizer: optax.GradientTransformation, config: Any, steps: int
) -> optax.GradientTransformation:
    """The optimiser as the `pretrained` section wants it; the same one where it wants nothing.

    Frozen parameters have no moments, count in no gradient norm and do not decay. With `head_first`
    the classifier and LoRA's matrices train alone for that share of the steps; over as many steps
    more the others' learning rates rise from zero (after Howard and Ruder, 2018).

    Args:
      optimizer: of the whole network.
      config: the `pretrained` section.
      steps: updates in all.
    """
    chain = [optimizer]
    if config.layer_decay != 1 or config.head_rate != 1:
        chain.append(_scaled(lambda params: rates(config, params)))
    if wait := round(config.head_first * steps):
        chain.append(
            optax.masked(
                optax.scale_by_schedule(lambda done: jnp.clip((done - wait) / wait, 0, 1)), _begun
            )
        )
    optimizer = optax.chain(*chain) if len(chain) > 1 else optimizer
    if not config.freeze:
        return optimizer

    def labels(params: Any) -> Any:
        kept = frozen(config, params)
        return jax.tree.map(lambda keep: "frozen" if keep else "trained", kept)

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def check(config: Any, params: Any) -> None:
    """Checks that the patterns mean something to this network.

    Args:
      config: the `pretrained` section.
      params: its parameters or their shapes.

    Raises:
      UserError: a pattern that matches nothing, or nothing that is left to train.
    """
    known = names(params)
    for key in ("freeze", "unfreeze"):
        for pattern in getattr(config, key):
            if not any(fnmatch.fnmatchcase(name, pattern) for name in known):
                raise UserError(
                    f"config.pretrained.{key}: {pattern!r} matches no parameter; there are "
                    f"{known[0]} to {known[-1]}, '*' stands for anything"
                )
    if all(jax.tree.leaves(frozen(config, params))):
        raise UserError(f"config.pretrained.freeze={config.freeze!r}: leaves nothing to train")


def _name(path: tuple[Any, ...]) -> str:
    keys = [getattr(k, "key", getattr(k, "idx", getattr(k, "name", None))) for k in path]
    return ".".join(map(str, keys[:-1] if keys[-1] == "value" else keys))


def _any(patterns: Any, name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _layer(name: str) -> int | None:
    """0 before the blocks, from 1 on in them, None after them."""
    first, *rest = name.split(".")
    if first in _BLOCKS:
        return int(rest[0]) + 1
    return None if first in _LAST else 0


def _begun(params: Any) -> Any:
    """Which parameters have a publisher's values to lose."""

    def begun(path: Any, _: Any) -> bool:
        return not any(part in _NEW for part in _name(path).split("."))

    return jax.tree_util.tree_map_with_path(begun, params)


def _scaled(factors: Callable[[Any], Any]) -> optax.GradientTransformation:
    return optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, factors(updates)))
