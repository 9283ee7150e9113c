"""Calibration is in the weights, both readings of the scores can be had, and the decision stays the balanced one."""

import numpy as np
import pytest
import torch
from fakes.tiny import LABELS, noise, tiny_model
from scipy.special import log_softmax, softmax

from ser.inference.loading import load_pipeline
from ser.training.arguments import ModelArguments
from ser.training.temperature import calibrate, reading_of, uncalibrated
from ser_model import SERForAudioClassification


@pytest.fixture
def model(tmp_path):
    return SERForAudioClassification.from_pretrained(tiny_model(tmp_path / "model")).eval()


def dev(clips=400):
    """Logits of a balanced world, and classes of which the last is rare."""
    generator = np.random.default_rng(0)
    truth = generator.choice(5, p=[0.4, 0.3, 0.2, 0.08, 0.02], size=clips)
    logits = generator.normal(size=(clips, 5))
    logits[np.arange(clips), truth] += 1.5
    return 3 * logits, truth


def logits_of(model):
    with torch.no_grad():
        return model(torch.from_numpy(noise(1.0))[None]).logits[0].double().numpy()


def test_without_the_prior_no_decision_changes_and_the_biases_are_kept(model):
    before, (logits, truth) = logits_of(model), dev()
    changed, facts = calibrate(model, logits, truth, list(LABELS), ModelArguments(loss="weighted"))
    np.testing.assert_array_equal(changed.argmax(1), logits.argmax(1))
    np.testing.assert_allclose(logits_of(model), before / facts["temperature"], atol=1e-5)
    assert facts["reading"] == "balanced"
    assert facts["calibrate_prior"] is model.config.calibrate_prior is False
    assert model.config.calibration_bias == list(facts["bias"].values())
    assert facts["bias"]["sadness"] < facts["bias"]["anger"]


def test_with_the_prior_scores_say_how_often_a_class_is_the_true_one(model):
    before, (logits, truth) = logits_of(model), dev()
    changed, facts = calibrate(
        model, logits, truth, list(LABELS), ModelArguments(loss="weighted", calibrate_prior=True)
    )
    bias = np.array(list(facts["bias"].values()))
    np.testing.assert_allclose(changed, logits / facts["temperature"] + bias)
    np.testing.assert_allclose(logits_of(model), before / facts["temperature"] + bias, atol=1e-5)
    assert facts["reading"] == "corpus"
    shares = np.bincount(truth) / len(truth)
    np.testing.assert_allclose(softmax(changed, axis=1).mean(axis=0), shares, atol=0.02)
    assert np.abs(softmax(logits / facts["temperature"], axis=1).mean(axis=0) - shares).max() > 0.05


@pytest.mark.parametrize("folded", [False, True])
def test_what_a_model_said_before_can_be_had_from_what_it_says(model, folded):
    logits, truth = dev()
    changed, facts = calibrate(model, logits, truth, list(LABELS), ModelArguments(calibrate_prior=folded))
    found = uncalibrated(softmax(changed, axis=1), facts, list(LABELS))
    np.testing.assert_allclose(log_softmax(found, axis=1), log_softmax(logits, axis=1), atol=1e-6)


@pytest.mark.parametrize("folded", [False, True])
def test_the_pipeline_gives_either_reading(model, tmp_path, folded):
    calibrate(model, *dev(), list(LABELS), ModelArguments(calibrate_prior=folded))
    model.save_pretrained(tmp_path / "model")
    classify = load_pipeline(str(tmp_path / "model"), "cpu")

    def scores(**how):
        return {of["label"]: of["score"] for of in classify(noise(1.0), **how)}

    assert scores() == scores(calibrate_prior=folded)
    ratio = np.log([scores(calibrate_prior=True)[label] / scores(calibrate_prior=False)[label] for label in LABELS])
    bias = np.array(model.config.calibration_bias)
    np.testing.assert_allclose(ratio - ratio.mean(), bias - bias.mean(), atol=1e-6)


def test_a_model_without_biases_refuses_the_choice(tmp_path):
    classify = load_pipeline(str(tiny_model(tmp_path / "m")), "cpu")
    with pytest.raises(ValueError, match="calibrate_prior: class biases were never fitted"):
        classify(noise(1.0), calibrate_prior=True)


@pytest.mark.parametrize(
    ("arguments", "reading"),
    [
        ({}, "corpus"),
        ({"loss": "focal"}, "corpus"),
        ({"loss": "weighted"}, "balanced"),
        ({"loss": "logit_adjusted"}, "balanced"),
        ({"balanced_sampler": True}, "balanced"),
        ({"balance": "class_and_corpus"}, "balanced"),
        ({"balance": "corpus"}, "corpus"),
        ({"mixup_alpha": 0.2}, "balanced"),
        ({"loss": "weighted", "calibrate_prior": True}, "corpus"),
    ],
)
def test_the_reading_follows_from_how_classes_were_weighed(arguments, reading):
    assert reading_of(ModelArguments(**arguments)) == reading


def test_a_prior_without_calibration_is_refused():
    with pytest.raises(ValueError, match="--calibrate_prior: true has no effect with --calibrate false"):
        ModelArguments(calibrate=False, calibrate_prior=True)
