import threading
import time

import pytest
import torch

from ser.cores import map_on_cores


@pytest.fixture
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_outputs_come_in_order_and_each_batch_has_one_thread(two_cores):
    found = list(map_on_cores(lambda batch: (batch, torch.get_num_threads(), threading.get_ident()), range(40)))
    assert [batch for batch, _, _ in found] == list(range(40))
    assert {threads for _, threads, _ in found} == {1}
    assert threading.get_ident() not in {thread for _, _, thread in found}
    assert torch.get_num_threads() == 2


def test_an_error_reaches_the_caller_and_the_cores_are_free_again(two_cores):
    done = []

    def compute(batch):
        done.append(batch)
        time.sleep(0.002)
        if batch == 3:
            raise ValueError("batch 3")
        return batch

    with pytest.raises(ValueError, match="batch 3"):
        list(map_on_cores(compute, range(1000)))
    assert len(done) < 1000
    assert torch.get_num_threads() == 2


def test_statistics_of_a_backbone_are_the_same_to_the_bit_on_any_number_of_cores(two_cores, tmp_path):
    from fakes.one_step import CLASSES, corpus, small_model
    from fakes.tiny import feature_extractor

    from ser.data.augment import build_augmentation
    from ser.data.batching import Clips, Collator
    from ser.training.frozen_features import corpus_statistics

    augment = build_augmentation('[{"name": "AddGaussianSNR", "p": 0.8}]')
    clips = Clips(corpus([0.5, 1.3, 0.2, 2.0, 5.9, 0.3, 1.1, 0.7], CLASSES), CLASSES, augment)
    model, collator = small_model(), Collator(feature_extractor())
    two = corpus_statistics(clips, model, collator, tmp_path / "two", copies=1).tables
    torch.set_num_threads(1)
    one = corpus_statistics(clips, model, collator, tmp_path / "one", copies=1).tables
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert not (one[0] == one[1]).all()
