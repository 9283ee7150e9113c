"""The fit of a head on frozen statistics, and the choice of the layer, on statistics made for the question."""

import numpy as np
import pytest
import torch
from fakes.tiny import SMALL, names
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import HubertConfig

from ser.evaluation.layers import layer_section
from ser.training.arguments import ModelArguments
from ser.training.head import fit_head
from ser.training.layer_choice import STRENGTHS, choose_layer, inner_folds, standardised
from ser.training.losses import build_loss
from ser_model import SERConfig, SERForAudioClassification

CLASSES = ("anger", "fear", "neutral")
SIZE = SMALL["hidden_size"]


def model_of(head="tanh", layer_mix=1, pooling="mean_std", seed=0) -> SERForAudioClassification:
    torch.manual_seed(seed)
    config = SERConfig(
        backbone_config=HubertConfig(**SMALL), head=head, layer_mix=layer_mix, pooling=pooling, **names(CLASSES)
    )
    return SERForAudioClassification(config).eval()


def made_statistics(count: int, informative: int = 1, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Statistics `[N, 3, 2 D]` of very unequal sizes; the class shifts ten dimensions of one layer."""
    generator = np.random.default_rng(seed)
    classes = np.arange(count) % len(CLASSES)
    values = generator.standard_normal((count, 3, 2 * SIZE))
    values[:, informative, :10] += 1.5 * generator.standard_normal((len(CLASSES), 10))[classes]
    values = values * np.exp(3 * generator.standard_normal(2 * SIZE)) + 5 * generator.standard_normal(2 * SIZE)
    return torch.from_numpy(values).float(), classes


def fitted(model, statistics, classes, strength=0.01, loss="weighted"):
    counts = np.bincount(classes, minlength=len(CLASSES))
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(classes), len(CLASSES)).float()
    fit_head(model, statistics, one_hot, build_loss(ModelArguments(loss=loss), counts), strength)
    return model


@torch.no_grad()
def probabilities(model, statistics) -> np.ndarray:
    return model.classify(statistics).softmax(-1).numpy()


@pytest.mark.parametrize("count", [40, 400], ids=["fewer clips than dimensions", "more"])
def test_a_linear_head_is_scikit_learns_logistic_regression(count):
    statistics, classes = made_statistics(count)
    classes = np.where(np.arange(count) % 5 == 0, 0, classes)
    unseen, _ = made_statistics(60, seed=1)
    model = fitted(model_of("linear"), statistics, classes, strength=0.03)
    scaler = StandardScaler().fit(statistics[:, 1])
    reference = LogisticRegression(C=1 / (0.03 * count), class_weight="balanced", tol=1e-8, max_iter=2000)
    reference.fit(scaler.transform(statistics[:, 1]), classes)
    expected = reference.predict_proba(scaler.transform(unseen[:, 1]))
    np.testing.assert_allclose(probabilities(model, unseen), expected, atol=3e-3)


@pytest.mark.parametrize("layer_mix", [1, "all", "weighted"])
@pytest.mark.parametrize("head", ["tanh", "linear"])
def test_every_head_learns_what_one_layer_holds_however_large_its_numbers_are(head, layer_mix):
    statistics, classes = made_statistics(240)
    model = fitted(model_of(head, layer_mix), statistics[:180], classes[:180])
    assert (probabilities(model, statistics[180:]).argmax(1) == classes[180:]).mean() > 0.85


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    statistics, classes = made_statistics(60)
    first, again, other = (fitted(model_of(seed=seed), statistics, classes) for seed in (0, 0, 1))
    assert torch.equal(first.projector.weight, again.projector.weight)
    assert not torch.equal(first.projector.weight, other.projector.weight)


def test_a_fit_moves_the_head_and_leaves_the_backbone():
    statistics, classes = made_statistics(60)
    model = model_of()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    fitted(model, statistics, classes)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {f"{layer}.{kind}" for layer in ("projector", "classifier") for kind in ("weight", "bias")}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_mean_that_is_subtracted_stays_exact_in_half_precision(dtype, tmp_path):
    statistics, classes = made_statistics(60)
    model = fitted(model_of(), statistics, classes)
    model.save_pretrained(tmp_path)
    for half in (SERForAudioClassification.from_pretrained(tmp_path, dtype=dtype), model.to(dtype)):
        assert half.classifier.weight.dtype == dtype
        mean = statistics[:, 1].mean(0)
        torch.testing.assert_close(half.standardize.mean[0], mean, rtol=1e-5, atol=1e-5)


def test_a_dimension_that_never_changes_does_no_harm():
    statistics, classes = made_statistics(60)
    statistics[:, 1, 3] = 7.0
    model = fitted(model_of(), statistics, classes)
    assert np.isfinite(probabilities(model, statistics)).all()


def test_logit_adjustment_lets_the_rare_class_be_heard():
    statistics, classes = made_statistics(300)
    rare = np.flatnonzero(classes == 1)[8:]
    keep = np.setdiff1d(np.arange(240), rare)
    plain, adjusted = (
        fitted(model_of("linear"), statistics[keep], classes[keep], loss=loss)
        for loss in ("cross_entropy", "logit_adjusted")
    )
    of_rare = statistics[240:][classes[240:] == 1]
    assert probabilities(adjusted, of_rare)[:, 1].mean() > probabilities(plain, of_rare)[:, 1].mean()


def rows_of(count: int, speakers: int) -> dict[str, list]:
    return {"id": [f"c{i}" for i in range(count)], "speaker": [f"s{i * speakers // count}" for i in range(count)]}


@pytest.mark.parametrize("informative", [0, 2])
def test_the_layer_that_holds_the_classes_is_chosen(informative):
    statistics, classes = made_statistics(160, informative)
    choice = choose_layer(statistics.numpy(), classes, rows_of(160, 8), CLASSES, [0, 1, 2])
    assert choice.layer_mix == informative
    table = choice.held_out.assign(chosen=choice.held_out["layer"] == str(choice.layer_mix))
    section = layer_section([table], CLASSES)
    assert [layer["chosen"] for layer in section] == [int(layer == informative) for layer in range(3)]
    assert section[informative]["uar"] > 0.9 > section[1]["uar"]
    assert section[informative]["interval"][0] <= section[informative]["uar"] <= section[informative]["interval"][1]


@pytest.mark.parametrize(("noise", "size"), [(1.0, 40), (1.0, 12), (4.0, 40), (4.0, 12)])
def test_the_strength_is_the_one_that_scikit_learn_finds_among_all(noise, size):
    """With many dimensions for the clips, which are projected, and with few, which are not."""
    generator, count = np.random.default_rng(3), 48
    classes = np.arange(count) % len(CLASSES)
    vectors = noise * generator.standard_normal((count, 1, 6 * size))
    vectors[:, 0, :9] += generator.standard_normal((len(CLASSES), 9))[classes]
    rows = rows_of(count, 8)
    folds = inner_folds(classes, rows["speaker"])
    scores = {}
    for strength in STRENGTHS:
        found = np.zeros(count)
        for fold in range(4):
            inside, c = folds != fold, 1 / (strength * (folds != fold).sum())
            machine = LogisticRegression(C=c, class_weight="balanced", tol=1e-8, max_iter=9999)
            machine = make_pipeline(StandardScaler(), machine).fit(vectors[inside, 0], classes[inside])
            each = machine.predict_log_proba(vectors[~inside, 0])
            found[~inside] = each[np.arange(len(each)), classes[~inside]]
        scores[strength] = np.mean([found[classes == label].mean() for label in range(len(CLASSES))])
    choice = choose_layer(vectors.astype(np.float32), classes, rows, CLASSES, [0])
    assert choice.strength == max(scores, key=scores.get)
    assert choice.score == pytest.approx(scores[choice.strength], abs=0.01)


def test_a_layer_that_tells_speakers_apart_is_not_chosen_for_it():
    """In each layer the class can be read: in layer 0 only for speakers of train, in layer 1 for all."""
    count, speakers = 240, 8
    statistics, classes = made_statistics(count, informative=1)
    speaker = np.arange(count) * speakers // count
    generator = np.random.default_rng(5)
    codes = 4 * generator.standard_normal((speakers, len(CLASSES), 2 * SIZE))
    statistics[:, 0] = torch.from_numpy(codes[speaker, classes] + generator.standard_normal((count, 2 * SIZE))).float()
    assert choose_layer(statistics.numpy(), classes, rows_of(count, speakers), CLASSES, [0, 1]).layer_mix == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_with_more_dimensions_than_clips_a_linear_model_is_that_of_all_dimensions(dtype):
    generator = np.random.default_rng(0)
    inside, outside = (generator.normal(size=(n, 300)) * generator.gamma(1, 9, 300) for n in (60, 20))
    truth = (inside[:, :40].sum(1) > 0) + (inside[:, 40] > 0)
    narrow_inside, narrow_outside = standardised(inside.astype(dtype), outside.astype(dtype))
    assert narrow_inside.shape == (60, 59)  # the mean is taken off
    assert narrow_outside.dtype == dtype
    scaler = StandardScaler().fit(inside)
    wide, narrow = (LogisticRegression(C=0.1, tol=1e-8, max_iter=1000) for _ in range(2))
    expected = wide.fit(scaler.transform(inside), truth).predict_proba(scaler.transform(outside))
    found = narrow.fit(narrow_inside, truth).predict_proba(narrow_outside)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_dimensions_choose_their_layer_too():
    generator = np.random.default_rng(0)
    statistics, _ = made_statistics(120)
    values = statistics[:, 2, :2].numpy() / statistics[:, 2, :2].numpy().std(0) + 0.1 * generator.standard_normal(
        (120, 2)
    )
    choice = choose_layer(statistics.numpy(), values, rows_of(120, 6), ["valence", "arousal"], [0, 1, 2])
    assert choice.layer_mix == 2
    assert choice.score > 0.8
    table = choice.held_out.assign(chosen=choice.held_out["layer"] == "2")
    assert layer_section([table], ["valence", "arousal"])[2]["ccc"] == pytest.approx(choice.score, abs=1e-6)


def test_no_speaker_is_on_both_sides_of_an_inner_fold_where_speakers_are_known():
    classes, speakers = np.arange(90) % 3, [f"s{i % 6}" for i in range(90)]
    folds = inner_folds(classes, speakers)
    assert len({(speaker, fold) for speaker, fold in zip(speakers, folds, strict=True)}) == 6
    assert set(inner_folds(classes, [None] * 90)) == {0, 1, 2, 3}
    assert set(inner_folds(classes, ["one"] * 90)) == {0, 1, 2, 3}
