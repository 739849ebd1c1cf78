"""Augmentation in sound, on the device: each a function of a key and one clip, exact about length.

A clip is `sound [N]` float32 between -1 and 1, zero past its own `length`; `jax.vmap` makes these
functions of a batch, in which every clip has a key of its own. `between_class` alone mixes clips
and takes the batch. What comes of all of them is in `hearing.py`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
_RATES = 1024  # speeds told apart between one and twice as fast: positions are exact in int32
_BYTE_DEVIATION = math.sqrt((256**2 - 1) / 12)  # of a uniform byte
_LEAST_DB = -80.0  # loudness of silence
_POINTS = 8  # of an equaliser's curve, evenly over the octaves
_LOWEST_HZ = 62.5
_ORDER = 4  # of the low-pass filter: 24 dB an octave


def cycle(key: Array, sound: Array, length: Array, *, shift: bool, loop: float) -> Array:
    """Turns a clip round within its length, or fills it with repetitions of what sounds in it.

    Args:
      key: PRNG key.
      sound: `[N]`.
      length: the clip's own samples, which stay as many.
      shift: begin at a random sample, and go on with the first after the last.
      loop: chance that the zeros at the clip's beginning and end are left out, and the rest is
        repeated (from a random sample with `shift`) until the length is full.
    """
    turn_key, loop_key = jax.random.split(key)
    position = jnp.arange(len(sound))
    sounds = sound != 0
    first = jnp.argmax(sounds)
    count = len(sound) - jnp.argmax(sounds[::-1]) - first
    loops = jax.random.bernoulli(loop_key, loop) & sounds.any()
    first = jnp.where(loops, first, 0)
    period = jnp.maximum(jnp.where(loops, count, length), 1)
    turn = jax.random.randint(turn_key, (), 0, period) if shift else 0
    source = first + jax.lax.rem(position + turn, period)
    return jnp.where(position < length, sound[source], 0)


def speed(
    key: Array, sound: Array, length: Array, factor: float | Array, size: int
) -> tuple[Array, Array]:
    """Plays a clip faster or slower, pitch and duration alike, and cuts `size` samples out of it.

    The speed is `factor` to the power of -1 to 1, uniformly, rounded to a 1024th; samples between
    samples are interpolated linearly, as for EnvNet-v2 (Tokozume et al., 2018).

    Args:
      key: PRNG key.
      sound: `[N]`.
      length: the clip's own samples.
      factor: greatest speed, at most 2; 1 only cuts.
      size: samples of the result; of what is longer, a random stretch.

    Returns:
      `[size]`, and how many samples of it are the clip's: those that lie between its first and its
      last sample.
    """
    rate_key, start_key = jax.random.split(key)
    exponent = jax.random.uniform(rate_key, minval=-1.0, maxval=1.0)
    rate = jnp.round(_RATES * jnp.asarray(factor, jnp.float32) ** exponent).astype(jnp.int32)
    total = resampled(length, rate)
    start = jax.random.randint(start_key, (), 0, jnp.maximum(total - size, 0) + 1)
    position = jnp.arange(size)
    # (start + position) * rate / 1024, in parts that do not overflow.
    whole, rest = jnp.divmod(start + position, _RATES)
    before = whole * rate + rest * rate // _RATES
    share = (rest * rate % _RATES).astype(jnp.float32) / _RATES
    after = jnp.minimum(before + 1, len(sound) - 1)
    new = jnp.minimum(total, size)
    between = sound[before] * (1 - share) + sound[after] * share
    return jnp.where(position < new, between, 0), new


def resampled(length: Array, rate: Array) -> Array:
    """Samples of a clip of `length` played at `rate` 1024ths of its speed; 0 for an empty one."""
    whole, rest = jnp.divmod(jnp.maximum(length - 1, 0), rate)
    return jnp.where(length > 0, whole * _RATES + rest * _RATES // rate + 1, 0)


def loudness(sound: Array, sample_rate: int, kind: str) -> Array:
    """Sound pressure of the loudest window, dB, as Tokozume et al. (2018) take it.

    Windows are a power of two of samples, about 0.1 s (theirs: 2048 at 16 kHz, 4096 at 44.1 kHz),
    and overlap by half.

    Args:
      sound: `[N]`.
      sample_rate: Hz.
      kind: "a_weighted", energies of a Hann window's bins by the A-weighting of IEC 61672, or
        "rms".
    """
    window = 2 ** round(math.log2(0.11 * sample_rate))
    half = window // 2
    rows = max(2, len(sound) // half)
    padded = jnp.pad(sound, (0, max(0, rows * half - len(sound))))
    halves = padded[: rows * half].reshape(rows, half)
    if kind == "rms":
        power = jnp.square(halves).sum(-1)
        power = (power[1:] + power[:-1]) / window
    else:
        windows = jnp.concatenate([halves[:-1], halves[1:]], axis=-1)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        spectrum = jnp.fft.rfft(windows * jnp.asarray(hann, jnp.float32), axis=-1)
        weight = jnp.asarray(a_weighting(sample_rate, window), jnp.float32)
        energy = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
        power = jnp.matmul(energy, weight, precision="highest")
    return 10 * jnp.log10(jnp.maximum(power.max(), 10 ** (_LEAST_DB / 10)))


def a_weighting(sample_rate: int, window: int) -> np.ndarray:
    """`[1 + window // 2]` factors of energy of IEC 61672's curve A, at least -80 dB."""
    square = np.square(np.arange(1 + window // 2) * (sample_rate / window))
    square[0] = 1.0  # 0 Hz, whose logarithm does not exist
    poles = np.log10(square + 12194**2) + np.log10(square + 20.6**2)
    poles += 0.5 * np.log10(square + 107.7**2) + 0.5 * np.log10(square + 737.9**2)
    decibels = 2.0 + 20 * (2 * np.log10(12194) + 2 * np.log10(square) - poles)
    return 10 ** (np.maximum(decibels, _LEAST_DB) / 10)


def between_class(
    keys: Array, sound: Array, length: Array, label: Array, level: Array, chance: float | Array
) -> tuple[Array, Array, Array]:
    """Between-class learning (Tokozume et al., 2018): mixes clips of different classes.

    A clip and one of another class sound in a ratio of `r : 1 - r`, r uniform, as they are heard:
    louder clips are turned down to it. The mix has the energy of its parts, the label is `r` and
    `1 - r` of theirs, and the loss against it is the paper's Kullback-Leibler divergence up to the
    label's entropy, which has no gradient.

    Args:
      keys: `[B]`, a key for each clip.
      sound: `[B, N]`.
      length: `[B]`.
      label: `[B, C]`, one class each, or soft: then the class that it is most of.
      level: `[B]` dB, as of `loudness`.
      chance: of being mixed; a clip whose class all others share stays as it is.

    Returns:
      sound, length (that of the longer clip) and label.
    """
    most = label.argmax(-1)  # of a soft label too
    differs = most[:, None] != most[None, :]

    def draw(key: Array, allowed: Array) -> tuple[Array, Array, Array]:
        choice_key, other_key, ratio_key = jax.random.split(key, 3)
        score = jax.random.uniform(other_key, allowed.shape)
        other = jnp.argmax(jnp.where(allowed, score, -1.0))
        mixes = jax.random.bernoulli(choice_key, chance) & allowed.any()
        return other, mixes, jax.random.uniform(ratio_key)

    other, mixes, ratio = jax.vmap(draw)(keys, differs)
    ratio = jnp.where(mixes, ratio, 1.0)
    quieter = 10 ** ((level - level[other]) / 20) * (1 - ratio)
    share = ratio / (ratio + quieter)
    norm = jnp.sqrt(share**2 + (1 - share) ** 2)
    mixed = sound * (share / norm)[:, None] + sound[other] * ((1 - share) / norm)[:, None]
    longer = jnp.where(mixes, jnp.maximum(length, length[other]), length)
    return mixed, longer, ratio[:, None] * label + (1 - ratio[:, None]) * label[other]


def polarity(key: Array, sound: Array) -> Array:
    """Turns every other clip, by chance, upside down."""
    return jnp.where(jax.random.bernoulli(key), -sound, sound)


def level(key: Array, sound: Array, decibels: float) -> Array:
    """A gain of up to `decibels` either way, uniformly; nothing is clipped."""
    return sound * 10 ** (jax.random.uniform(key, minval=-decibels, maxval=decibels) / 20)


def noise(
    key: Array, sound: Array, length: Array, *, chance: float, low: float, high: float
) -> Array:
    """Adds white noise `low` to `high` dB, uniformly, below the clip's own mean energy.

    The noise is of uniform bytes, four of each random word, which takes a fraction of the time of
    a normal distribution; in a spectrum the two are alike.
    """
    choice_key, ratio_key, noise_key = jax.random.split(key, 3)
    words = jax.random.bits(noise_key, (-(-len(sound) // 4),), jnp.uint32)
    drawn = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: len(sound)]
    white = (drawn.astype(jnp.float32) - 127.5) / _BYTE_DEVIATION
    energy = jnp.square(sound).sum() / jnp.maximum(length, 1)
    ratio = jax.random.uniform(ratio_key, minval=low, maxval=high)
    amplitude = jnp.sqrt(energy) * 10 ** (-ratio / 20)
    amplitude = jnp.where(jax.random.bernoulli(choice_key, chance), amplitude, 0)
    return jnp.where(jnp.arange(len(sound)) < length, sound + amplitude * white, 0)


def response(
    key: Array, frequency: np.ndarray, *, equaliser_db: float, low_pass: float, low_pass_hz: float
) -> Array:
    """Factors of energy at each frequency: a random equaliser, and by chance a low-pass filter.

    The frontend multiplies the spectra of its windows with them, which costs next to nothing and
    is the filter without its delay. The equaliser is a line over the octaves through eight gains
    (as in FilterAugment, Nam et al., 2022); the low-pass is Butterworth's of fourth order, its
    cut-off uniform over the octaves.

    Args:
      key: PRNG key.
      frequency: `[F]` Hz, from 0 to half the sample rate.
      equaliser_db: greatest gain either way; 0 for none.
      low_pass: chance of the low-pass filter.
      low_pass_hz: its lowest cut-off; the highest is the last frequency.
    """
    gain_key, choice_key, cut_key = jax.random.split(key, 3)
    highest = float(frequency[-1])
    octaves = np.log2(np.maximum(frequency, _LOWEST_HZ))
    decibels = jnp.zeros(len(frequency))
    if equaliser_db:
        points = np.linspace(octaves[0], octaves[-1], _POINTS)
        gains = jax.random.uniform(gain_key, (_POINTS,), minval=-equaliser_db, maxval=equaliser_db)
        decibels += jnp.interp(jnp.asarray(octaves, jnp.float32), jnp.asarray(points), gains)
    if low_pass:
        cut = low_pass_hz * (highest / low_pass_hz) ** jax.random.uniform(cut_key)
        fall = -10 * jnp.log10(1 + (jnp.asarray(frequency, jnp.float32) / cut) ** (2 * _ORDER))
        decibels += jnp.where(jax.random.bernoulli(choice_key, low_pass), fall, 0)
    return 10 ** (decibels / 10)
