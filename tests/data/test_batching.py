"""Batches: everything once, little padding, the same order for the same seed and epoch."""

import numpy as np
import pytest
import torch
from fakes.one_step import corpus
from fakes.tiny import feature_extractor

from ser.data.augment import build_augmentation
from ser.data.batching import Clips, Collator, EpochBatches

LENGTHS = np.random.default_rng(0).gamma(2.0, 2.0, 2400) + 0.3


def rows_of(batches) -> list[int]:
    return [row for batch in batches for row, _, _ in batch]


@pytest.mark.parametrize("options", [{}, {"by_length": True}, {"batch_seconds": 64.0}])
def test_an_epoch_holds_every_clip_once_in_an_order_of_its_own(options):
    batches = EpochBatches(LENGTHS, 16, seed=1, **options)
    first = list(batches)
    batches.set_epoch(1)
    second = list(batches)
    assert sorted(rows_of(first)) == sorted(rows_of(second)) == list(range(len(LENGTHS)))
    assert rows_of(first) != rows_of(second)
    assert len(first) == len(second) == len(batches)


def test_the_order_depends_on_seed_and_epoch_alone():
    def epoch(number, seed):
        batches = EpochBatches(LENGTHS, 16, batch_seconds=64.0, seed=seed)
        batches.set_epoch(number)
        return list(batches)

    assert epoch(3, seed=1) == epoch(3, seed=1)
    assert epoch(3, seed=1) != epoch(3, seed=2)


def test_batches_filled_by_seconds_hold_at_most_that_much_and_pad_next_to_nothing():
    paid = real = 0.0
    for batch in EpochBatches(LENGTHS, 16, batch_seconds=64.0):
        seconds = LENGTHS[[row for row, _, _ in batch]]
        paid += len(seconds) * seconds.max()
        real += seconds.sum()
        assert len(seconds) * seconds.max() <= 64.0
    assert paid / real < 1.05


@pytest.mark.parametrize("weights", [None, 1 / np.random.default_rng(1).uniform(0.1, 1, len(LENGTHS))])
@pytest.mark.parametrize("processes", [1, 2])
def test_no_epoch_joins_batches_beyond_their_seconds_to_keep_its_number(weights, processes):
    shares = [EpochBatches(LENGTHS, 16, 60.0, 1, weights=weights).on_process(p, processes) for p in range(processes)]
    for epoch in range(12):
        for share in shares:
            share.set_epoch(epoch)
        batches = [list(share) for share in shares]
        assert {len(own) for own in batches} == {len(shares[0])}
        for batch in (batch for own in batches for batch in own):
            seconds = LENGTHS[[row for row, _, _ in batch]]
            assert len(seconds) * seconds.max() <= 60.0
        if weights is None:
            assert sorted(rows_of(batch for own in batches for batch in own)) == list(range(len(LENGTHS)))


def test_an_epoch_that_needs_more_batches_than_the_first_is_filled_afresh_in_an_order_of_its_own():
    batches = EpochBatches(LENGTHS, 16, batch_seconds=60.0)
    most = max(range(1, 12), key=lambda epoch: len(batches._batches(epoch)))
    assert len(batches._batches(most)) > len(batches)
    batches.set_epoch(most)
    seconds = [LENGTHS[batch[0][0]] for batch in batches]
    assert len(seconds) == len(batches)
    assert abs(np.corrcoef(seconds, np.arange(len(seconds)))[0, 1]) < 0.2


def test_a_clip_longer_than_a_batch_is_a_batch_of_its_own():
    batches = list(EpochBatches(np.array([1.0, 100.0, 1.0]), 16, batch_seconds=10.0))
    assert sorted(len(batch) for batch in batches) == [1, 2]


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("options", [{}, {"batch_seconds": 64.0}])
def test_processes_share_an_epoch_evenly_and_leave_nothing_out(options, processes):
    shares = [list(EpochBatches(LENGTHS[:101], 16, **options).on_process(p, processes)) for p in range(processes)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(rows_of(batch for share in shares for batch in share)) == list(range(101))


def test_more_processes_than_clips_is_an_error():
    with pytest.raises(ValueError, match="2 clips cannot be shared by 3 processes"):
        list(EpochBatches(LENGTHS[:2], 16).on_process(0, 3))


def test_the_balanced_sampler_draws_every_class_alike():
    classes = np.repeat([0, 1, 2], [2000, 350, 50])
    weights = 1 / np.bincount(classes)[classes]
    batches = EpochBatches(LENGTHS, 16, weights=weights)
    drawn = np.bincount(classes[rows_of(batches)]) / len(LENGTHS)
    np.testing.assert_allclose(drawn, 1 / 3, atol=0.04)


def test_a_clip_drawn_twice_in_an_epoch_is_augmented_twice():
    batches = EpochBatches(LENGTHS[:4], 2, weights=np.array([1.0, 1e-9, 1e-9, 1e-9]))
    assert [draw for batch in batches for draw in batch] == [(0, 0, repeat) for repeat in range(4)]


@pytest.fixture(scope="module")
def noisy_clips() -> Clips:
    augmentation = build_augmentation(
        '[{"name": "AddGaussianSNR", "min_snr_db": 5, "max_snr_db": 20, "p": 0.7}, {"name": "Gain", "p": 0.5}]'
    )
    rows = corpus([0.4 + 0.1 * i for i in range(12)], [0] * 12)
    return Clips(rows, [0] * 12, augmentation, seed=5, max_seconds=1.0)


@pytest.mark.slow
def test_augmentation_is_the_same_with_no_worker_and_with_four(noisy_clips):
    def epoch(workers):
        batches = EpochBatches(noisy_clips.lengths_seconds(), 3, seed=1)
        return torch.utils.data.DataLoader(
            noisy_clips, batch_sampler=batches, collate_fn=Collator(feature_extractor()), num_workers=workers
        )

    for alone, shared in zip(epoch(0), epoch(4), strict=True):
        torch.testing.assert_close(alone["input_values"], shared["input_values"], atol=0, rtol=0)


def test_augmentation_differs_between_epochs_and_leaves_other_generators_alone(noisy_clips):
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    first, second = noisy_clips[(3, 0, 0)]["wave"], noisy_clips[(3, 1, 0)]["wave"]
    assert np.random.random() == expected
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(noisy_clips[(3, 0, 0)]["wave"], first)


def test_crops_are_as_long_as_asked_and_clean_clips_are_whole(noisy_clips):
    assert len(noisy_clips[(11, 0, 0)]["wave"]) == 16000
    assert len(noisy_clips[11]["wave"]) == int(16000 * 1.5)
    assert noisy_clips.lengths_seconds().max() == 1.0


def test_padding_is_masked_and_each_clip_is_normalised_over_its_own_samples(noisy_clips):
    batch = Collator(feature_extractor())([noisy_clips[0], noisy_clips[11]])
    assert batch["attention_mask"].sum(1).tolist() == [6400, 24000]
    assert batch["labels"].dtype == torch.int64
    for row in range(2):
        wave = batch["input_values"][row][batch["attention_mask"][row] == 1]
        assert wave.mean().abs() < 1e-4
        assert wave.std() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("[", "is not JSON"),
        ('[{"p": 1}]', 'is not of the form {"name": "Gain", "p": 0.5}'),
        ('[{"name": "Gian"}]', "no transform 'Gian'. Did you mean 'Gain'?"),
        ('[{"name": "Gain", "min_gain": 3}]', "Gain does not take {'min_gain': 3}"),
    ],
)
def test_an_augmentation_that_cannot_be_is_refused(specification, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[").replace("{", r"\{").replace("?", r"\?")):
        build_augmentation(specification)


def test_a_transform_that_lengthens_a_clip_gives_the_length_that_was_planned():
    augment = build_augmentation(
        '[{"name": "TimeStretch", "min_rate": 0.5, "max_rate": 0.5, "leave_length_unchanged": false, "p": 1.0}]'
    )
    assert len(augment(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32), ("a",))) == 16_000


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('{"name": "OneOf", "transforms": []}', "OneOf holds other transforms"),
        ('{"name": "AddBackgroundNoise", "sounds_path": "nowhere", "p": 0.01}', "AddBackgroundNoise does not take"),
    ],
)
def test_a_transform_that_would_fail_later_is_refused_when_it_is_built(entry, words):
    with pytest.raises(ValueError, match=f"--augmentations: {words}"):
        build_augmentation(f"[{entry}]")
