"""What a network's keys cannot be together is one line that names the key."""

import re
from typing import Any

import pytest

from jaxsound.config import default_config, validate
from jaxsound.errors import UserError

GRID = {"model.grid": True}
SAMPLES = {"frontend.kind": "waveform", "model.stem": "waveform"}


@pytest.mark.parametrize(
    ("model", "changes", "words"),
    [
        ("cp_resnet", {"model.blocks": (4, 4)}, "model.blocks=(4, 4): must be as many as"),
        ("cp_resnet", {"model.channels": (), "model.blocks": ()}, "model.blocks=()"),
        ("cp_resnet", {"model.pools": (1, 13)}, "model.pools=(1, 13): there are 12 blocks"),
        ("transformer", GRID | {"model.stem": "frames"}, "model.grid=True: needs model.stem"),
        ("transformer", GRID | {"model.positions": "rotary"}, "model.positions='rotary'"),
        (
            "transformer",
            {"model.positions": "rotary", "model.drop_tokens": 0.1},
            "model.positions='rotary'",
        ),
        ("transformer", {"model.drop_bins": 0.1}, "model.drop_bins=0.1: needs model.grid"),
        ("transformer", {"model.drop_times": 0.1}, "model.drop_times=0.1: needs model.grid"),
        ("transformer", {"model.stem": "waveform"}, "model.stem='waveform': needs frontend.kind"),
        (
            "transformer",
            SAMPLES | {"model.stem_factors": (4, 4)},
            "model.stem_channels=(32, 64, 128): must be as many as model.stem_factors=(4, 4)",
        ),
        ("transformer", SAMPLES | {"augment.freq_masks": 1}, "augment.freq_masks=1"),
        ("transformer", SAMPLES | {"data.crop_bins": 8}, "data.crop_bins=8: 'waveform' has no"),
        ("transformer", SAMPLES | {"frontend.delta": 1}, "frontend.delta=1"),
        ("transformer", SAMPLES | {"frontend.resize_bins": 8}, "frontend.resize_bins=8"),
        (
            "transformer",
            SAMPLES | {"data.input": "waveform", "augment.equaliser_db": 6.0},
            "augment.equaliser_db=6.0: frontend.kind='waveform' has no bins",
        ),
    ],
)
def test_one_line_with_key_and_value(model: str, changes: dict[str, Any], words: str) -> None:
    config = default_config(model)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=re.escape(words)) as refused:
        validate(config)
    assert len(str(refused.value).splitlines()) == 1


def test_a_network_of_samples_is_accepted() -> None:
    config = default_config("transformer")
    config.update_from_flattened_dict(SAMPLES)
    validate(config)
