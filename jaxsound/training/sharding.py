"""One named mesh, and where state and batches live on it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxsound.errors import UserError
from jaxsound.job import hosts
from jaxsound.training.state import Batch


def make_mesh(batch_size: int, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh with one axis, `data`, over all devices of all hosts (or over those given).

    Raises:
      UserError: the batch does not divide evenly over them.
    """
    devices = jax.devices() if devices is None else devices
    if batch_size % len(devices):
        raise UserError(
            f"config.batch_size={batch_size}: must be a multiple of the {len(devices)} devices"
        )
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def train_options() -> dict[str, Any] | None:
    """XLA's options for a training step.

    XLA takes the barriers that `model.remat` stands on away too early on CPU, merges the second
    computation with the first, and saves nothing.
    """
    early: dict[str, Any] = {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return early if jax.default_backend() == "cpu" else None


class Placement:
    """Shardings of a run: state replicated, batches split over `data`, folds kept together."""

    def __init__(self, mesh: Mesh, *, stacked: bool):
        """With `stacked`, state and batches have a leading axis of folds."""
        self.mesh = mesh
        self.stacked = stacked
        self.replicated = NamedSharding(mesh, PartitionSpec())
        batch = PartitionSpec(None, "data") if stacked else PartitionSpec("data")
        self.batch = NamedSharding(mesh, batch)
        self.batches = NamedSharding(mesh, PartitionSpec(None, *batch))

    def local_rows(self, batch_size: int) -> slice | np.ndarray:
        """The rows of a batch that this process's devices take, which are all it has to read."""
        spread = NamedSharding(self.mesh, PartitionSpec("data"))
        places = spread.addressable_devices_indices_map((batch_size,)).values()
        rows = np.unique(np.concatenate([np.arange(batch_size)[place] for place in places]))
        together = len(rows) == rows[-1] - rows[0] + 1
        return slice(int(rows[0]), int(rows[-1]) + 1) if together else rows

    def put_batch(self, batch: dict[str, np.ndarray], *, several: bool = False) -> Batch:
        """Host arrays, this process's part of the batch, to global device arrays.

        With `several` they are of so many steps, along a first axis.
        """
        target = self.batches if several else self.batch
        if jax.process_count() == 1:  # all of it in one call: a quarter of the time
            return jax.device_put(batch, target)
        return {
            key: jax.make_array_from_process_local_data(target, value)
            for key, value in batch.items()
        }

    def stack(self, trees: Sequence[Any]) -> Any:
        """One tree of each fold to one on the devices, with an axis of folds if `stacked`."""
        if not self.stacked:
            (tree,) = trees
            return self.put_replicated(tree)
        return self.put_replicated(jax.tree.map(lambda *x: jnp.stack(x), *trees))

    def put_replicated(self, tree: Any) -> Any:
        """The same values on every device."""

        def put(x: Any) -> jax.Array:
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(put(jax.random.key_data(x)))
            # Not device_put, which knows this process's devices only.
            return jax.make_array_from_process_local_data(self.replicated, np.asarray(x), x.shape)

        return jax.tree.map(put, tree)

    def by_device(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of arrays split over `data`, run by every device on its own part alone.

        For what the compiler would not split by itself, such as the frontend's loop over clips.
        """
        if self.mesh.size == 1:
            return function
        data = PartitionSpec("data")
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=data, out_specs=data, check_vma=False
        )

    def jit_train(self, step: Callable[..., Any], *, several: bool = False) -> Callable[..., Any]:
        """Compiles `(state, batch, key) -> (state, metrics)`, donating the state.

        With `several`, batches and metrics are of several steps, along a batch's first axis and a
        metric's last one.
        """
        run = self._over_folds(step)

        def steps(state: Any, batches: Batch, key: Any) -> Any:
            common = {name: batches[name] for name in batches if name == "frames"}
            each = {name: batches[name] for name in batches if name != "frames"}
            state, metrics = jax.lax.scan(lambda s, b: run(s, b | common, key), state, each)
            return state, jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), metrics)

        compiled = jax.jit(
            steps if several else run,
            donate_argnums=0,
            out_shardings=(self.replicated, self.replicated),
            compiler_options=train_options(),
        )
        return _begun_together(compiled)

    def jit_eval(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `(state, batch) -> logits`, gathered to every device."""
        return _begun_together(jax.jit(self._over_folds(step), out_shardings=self.replicated))

    def jit_observe(self, observe: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `(state, value) -> state`, donating the state; a value for each fold."""
        each = jax.vmap(observe) if self.stacked else observe
        return jax.jit(each, donate_argnums=0, out_shardings=self.replicated)

    def _over_folds(self, step: Callable[..., Any]) -> Callable[..., Any]:
        if not self.stacked:
            return step

        def stacked(state: Any, batch: Batch, *key: Any) -> Any:
            # All folds read the same resident frames.
            axes = {name: None if name == "frames" else 0 for name in batch}
            return jax.vmap(step, in_axes=(0, axes, *(0 for _ in key)))(state, batch, *key)

        return stacked


def _begun_together(function: Any) -> Callable[..., Any]:
    """Has all processes of a job compile before any of them begins.

    Gloo gives the last of them 30 seconds to arrive, and compiling may differ by more.
    """
    if jax.process_count() == 1:
        return function
    program: Any = None

    def call(*args: Any) -> Any:
        nonlocal program
        if program is None:
            program = function.lower(*args).compile()
            hosts.meet()
        return program(*args)

    return call
