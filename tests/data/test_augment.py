import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import audiomentations
import numpy as np
import pytest
from audiomentations.core.transforms_interface import BaseWaveformTransform
from fakes.speech import speech_like

from ser.data.augment import build_augmentation

TRANSFORMS = sorted(
    name
    for name, kind in vars(audiomentations).items()
    if isinstance(kind, type) and issubclass(kind, BaseWaveformTransform)
)
# Transforms without a default, each with the parameter that it asks for.
ASKS_FOR = {
    "AddBackgroundNoise": "sounds_path",
    "AddShortNoises": "sounds_path",
    "AdjustDuration": "duration_seconds",
    "ApplyImpulseResponse": "ir_path",
    "Lambda": "transform",
}
NEEDS = {
    "Limiter": "numpy_audio_limiter",
    "LoudnessNormalization": "loudness",
    "Mp3Compression": "fast_mp3_augment",
    "RoomSimulator": "pyroomacoustics",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The input sound is not long enough")
def test_each_transform_works_by_its_defaults_or_names_what_it_lacks():
    assert len(TRANSFORMS) == 39
    wave, refused = speech_like(3, seconds=2.0), {}
    for name in TRANSFORMS:
        try:
            augment = build_augmentation(json.dumps([{"name": name, "p": 1.0}]))
        except ValueError as error:
            refused[name] = str(error)
            continue
        heard = augment(wave, (0, 0, "a"))
        assert heard.dtype == np.float32
        assert len(heard) <= len(wave)
        assert np.isfinite(heard).all()
        np.testing.assert_array_equal(heard, augment(wave, (0, 0, "a")))
    assert set(ASKS_FOR) <= set(refused)
    for name, message in refused.items():
        assert message.startswith(f"--augmentations: {name} ")
        assert (ASKS_FOR | NEEDS)[name] in message


def test_an_augmentation_reaches_workers_that_are_not_forked():
    augment = build_augmentation('[{"name": "AddGaussianNoise", "p": 1.0}]')
    again, wave = pickle.loads(pickle.dumps(augment)), speech_like(0, 0.5)
    np.testing.assert_array_equal(again(wave, ("a", 1)), augment(wave, ("a", 1)))


def test_threads_give_each_clip_the_audio_that_one_thread_gives():
    augment = build_augmentation('[{"name": "AddGaussianSNR", "p": 0.8}, {"name": "Shift", "p": 0.8}]')
    waves = [speech_like(number, seconds=0.5) for number in range(60)]

    def augmented(number):
        return augment(waves[number], (1, number))

    expected = [augmented(number) for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(augmented, range(60)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
