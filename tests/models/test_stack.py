"""A stack of layers is refused in one line, or is what its texts say."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.models import build_model, stack
from tests.models.test_padding import BINS, LENGTHS, clips, model_config, run

FLATTEN = ("conv 4 3 stride=2", "tanh", "max_pool 2x3", "flatten", "linear 6", "relu")

REFUSED = {  # what is said -> layers, dims, features, frames
    "is empty: end it with a head": ((), 2, 20, 100),
    "'cvon 4 3': unknown layer; known: conv,": (("cvon 4 3", "mean"), 2, 20, 100),
    "'conv 4': must be written conv WIDTH KERNEL [stride=S] [pad=P]": (
        ("conv 4", "mean"),
        *(2, 20, 100),
    ),
    "'dropout 1.5': must be written dropout RATE": (("mean", "dropout 1.5"), 2, 20, 100),
    "'conv 4 3 stride=0': width, kernel, window and stride must be 1 or more": (
        ("conv 4 3 stride=0", "mean"),
        *(2, 20, 100),
    ),
    "'conv 4 3x1': model.dims=1 has time alone": (("conv 4 3x1", "mean"), 1, 20, 100),
    "'max_pool 8': nothing is left of a map of ? x 7": (
        ("max_pool 1x3 ", "conv 4 1", "max_pool 8", "mean"),
        *(2, 21, 0),
    ),
    "'conv 4 9 pad=0': nothing is left of a map of 8": (("conv 4 9 pad=0", "mean"), 1, 20, 8),
    "'linear 4': must come after a head": (("linear 4", "mean"), 2, 20, 100),
    "'conv 4 3': must come before the head, mean": (("mean", "conv 4 3"), 2, 20, 100),
    "'flatten': one head is enough": (("mean", "flatten"), 2, 20, 100),
    "'relu': a head must follow, one of mean, mean_max, flatten": (
        ("conv 4 3", "relu"),
        *(2, 20, 100),
    ),
    "'flatten': a flatten head needs a fixed number of frames: set data.frames": (
        FLATTEN,
        *(2, 20, 0),
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_a_wrong_layer_is_named_in_one_line(said: str) -> None:
    with pytest.raises(ValueError, match=r"^model\.layers") as error:
        stack.plan(*REFUSED[said])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_sizes_follow_the_layers() -> None:
    layers = (
        "conv 4 5x3 stride=2x1 pad=0x1",
        "max_pool 2x12",
        "mean_max",
        "linear 7",
        "dropout .5",
    )
    planned, width = stack.plan(layers[:3], 2, 32, 0)
    assert [layer.inputs for layer in planned] == [1, 4, 4]
    assert width == 8
    assert stack.plan(layers, 2, 32, 0)[1] == 7
    # 100 frames by 32 bins: 48 by 32 after the convolution, 24 by 2 after the pool.
    assert stack.plan((*layers[:2], "flatten"), 2, 32, 100)[1] == 24 * 2 * 4


def test_a_flatten_head_sees_nothing_past_a_clips_length() -> None:
    config = model_config("stack", layers=FLATTEN)
    (zeros, _), (noise, _) = run(config, False, clips(100, 0.0), clips(100, 1e3))
    np.testing.assert_array_equal(zeros, noise)


def test_a_flatten_head_refuses_another_number_of_frames() -> None:
    config = model_config("stack", layers=FLATTEN)
    model = nnx.eval_shape(
        lambda: build_model(config, features=BINS, classes=5, frames=100, rngs=nnx.Rngs(0))
    )
    with pytest.raises(ValueError, match="51 frames, but a flatten head for 100"):
        model(jnp.asarray(clips(51, 0.0)), LENGTHS, train=False)
