"""`evaluate.evaluator("audio-classification")` with models as they are pushed.

A pipeline object is not among what it takes: evaluate 0.4.6 asks whether it is a `TFPreTrainedModel`, a class that
transformers 5 no longer has. A model, or the name of one that needs no remote code, does not get that far.
"""

import datasets
import pandas as pd
import pytest
from fakes.made_run import LABELS, make_run

from ser.data.audio import decode_wav
from ser.evaluation.trainer_metrics import UAR


@pytest.fixture(scope="module", params=[False, True], ids=["ours", "stock"])
def made(request, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made"), stock=request.param)


def test_the_evaluator_hears_the_classes_that_the_run_predicted(made):
    from evaluate import evaluator
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    test = pd.read_parquet(made.folder / "predictions.parquet").query("split == 'test'")
    predicted = test[[f"p_{label}" for label in LABELS]].to_numpy().argmax(axis=1)
    assert len(set(predicted)) > 1
    clips = {"audio": [decode_wav(made.audio[clip]) for clip in test["id"]], "label": predicted}
    is_ours = (made.folder / "ser_model.py").is_file()
    found = evaluator("audio-classification").compute(
        model_or_pipeline=AutoModelForAudioClassification.from_pretrained(made.folder, trust_remote_code=is_ours),
        feature_extractor=AutoFeatureExtractor.from_pretrained(made.folder),
        data=datasets.Dataset.from_dict(clips).with_format("numpy"),
        metric=UAR(num_classes=len(LABELS)),
        input_column="audio",
        label_mapping={label: place for place, label in enumerate(LABELS)},
    )
    assert found["uar"] == 1
