"""Timelines: windows, pauses, borders, and their form as subtitles and RTTM."""

from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch
from fakes.tiny import FILTERBANK, feature_extractor, names, noise, tiny_model
from transformers import HubertConfig

from ser.inference.loading import load_pipeline
from ser.inference.subtitles import rttm, srt
from ser_model import (
    Grid,
    SERConfig,
    SERForAudioClassification,
    SERPipeline,
    blend_windows,
    metered,
    read_wave,
    runs_of,
    sounding,
    windows_of,
)

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def classify(tmp_path_factory):
    folder = tiny_model(tmp_path_factory.mktemp("model"))
    return load_pipeline(str(folder))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def cut(wave: np.ndarray, *lengths: int) -> list[np.ndarray]:
    return np.split(wave, np.cumsum(lengths))


def labels_of(segments) -> list[str]:
    return [segment["label"] for segment in segments]


def spans(segments) -> list[tuple[float, float]]:
    return [(segment["start"], segment["end"]) for segment in segments]


def test_a_clip_of_one_window_gives_the_plain_scores(classify):
    for seconds in (0.3, 2.0, 4.0):
        wave = noise(seconds)
        plain = classify(wave)
        expected = {"start": 0.0, "end": seconds, **plain[0], "scores": plain}
        assert classify(wave, timeline=True) == [expected]


def test_segments_follow_each_other_from_start_to_end(classify):
    wave = np.concatenate([noise(5), silence(1), noise(3.35, seed=1)])
    segments = classify(wave, timeline=True)
    assert segments[0]["start"] == 0.0
    assert segments[-1]["end"] == 9.35
    assert all(one["end"] == other["start"] for one, other in pairwise(segments))
    assert all(one["label"] != other["label"] for one, other in pairwise(segments))


def test_a_segment_has_the_scores_of_a_plain_call(classify):
    for segment in classify(noise(9), timeline=True):
        assert {score["label"] for score in segment["scores"]} == set(classify.model.config.id2label.values())
        assert sum(score["score"] for score in segment["scores"]) == pytest.approx(1)
        assert segment["scores"][0] == {"label": segment["label"], "score": segment["score"]}
    assert all(len(segment["scores"]) == 2 for segment in classify(noise(9), timeline=True, top_k=2))


@pytest.mark.parametrize("floor", [0.0, 1e-4])
def test_a_pause_is_marked_where_it_is_and_has_no_score(classify, floor):
    wave = np.concatenate([noise(5), silence(2), noise(5, seed=1)])
    wave += floor * np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    segments = classify(wave, timeline=True)
    (pause,) = [segment for segment in segments if segment["label"] == "silence"]
    assert pause == {"start": 5.0, "end": 7.0, "label": "silence", "score": None, "scores": []}


def test_a_stop_within_speech_is_no_pause(classify):
    wave = np.concatenate([noise(3), silence(0.3), noise(3)])
    assert "silence" not in labels_of(classify(wave, timeline=True))


def test_an_offset_does_not_hide_a_pause(classify):
    wave = np.concatenate([noise(3), silence(2), noise(3)]) + 0.2
    assert "silence" in labels_of(classify(wave, timeline=True))


@pytest.mark.parametrize("seconds", [2, 20])
def test_a_silent_recording_is_one_silence(classify, seconds):
    assert spans(classify(silence(seconds), timeline=True)) == [(0.0, seconds)]
    assert labels_of(classify(silence(seconds), timeline=True)) == ["silence"]


def test_integers_are_as_loud_as_their_range_says(classify):
    faint = np.random.default_rng(0).integers(-1, 2, 5 * RATE_HZ)
    assert labels_of(classify(faint.astype(np.int16), timeline=True)) == ["silence"]
    assert "silence" not in labels_of(classify(faint.astype(np.int8), timeline=True))


def test_window_or_hop_alone_ask_for_a_timeline(classify):
    wave = noise(5)
    assert classify(wave, window_seconds=4) == classify(wave, hop_seconds=1) == classify(wave, timeline=True)


def test_batches_of_windows_and_of_recordings_change_nothing(classify):
    waves = [noise(9), noise(2, seed=1), np.concatenate([noise(4), silence(1), noise(4, seed=2)])]
    expected = [classify(wave, timeline=True) for wave in waves]
    for batch_size in (2, 7, 64):
        for one, other in zip(expected, classify(waves, timeline=True, batch_size=batch_size), strict=True):
            assert spans(one) == spans(other)
            assert [s["score"] for s in one] == pytest.approx([s["score"] for s in other], abs=1e-5)


def test_a_file_and_its_samples_have_one_timeline(classify, tmp_path):
    wave = np.concatenate([noise(25), silence(2), noise(20, seed=1)])
    soundfile.write(tmp_path / "a.wav", wave, RATE_HZ, subtype="PCM_16")
    from_file = classify(tmp_path / "a.wav", timeline=True)
    assert from_file == classify(read_wave(tmp_path / "a.wav"), timeline=True)


def test_a_long_recording_is_scored_in_windows_and_pauses_do_not_count(classify):
    wave = noise(8)
    halves = [{s["label"]: s["score"] for s in classify(half)} for half in (wave[:64_000], wave[64_000:])]
    expected = {label: (halves[0][label] + halves[1][label]) / 2 for label in halves[0]}
    assert {s["label"]: s["score"] for s in classify(wave, max_seconds=4)} == pytest.approx(expected, abs=1e-5)
    padded = np.concatenate([wave, silence(8)])
    assert {s["label"]: s["score"] for s in classify(padded, max_seconds=4)} == pytest.approx(expected, abs=1e-5)


def test_a_recording_is_read_no_further_than_its_first_window_needs(classify, monkeypatch):
    read = []

    def blocks(*_):
        for index in range(100):
            read.append(index)
            yield noise(10)

    monkeypatch.setattr("ser_model.read_blocks", blocks)
    assert next(classify.preprocess("any.wav", timeline=True))["input_values"].shape == (1, 64_000)
    assert len(read) == 1


def test_windows_are_the_same_however_the_recording_is_cut_into_blocks():
    wave = np.arange(1000, dtype=np.float32)
    expected = list(windows_of(iter([wave]), 100, 30))
    for lengths in ((1, 998), (300, 5, 500), (99, 1, 1, 50), tuple([10] * 99)):
        found = list(windows_of(iter(cut(wave, *lengths)), 100, 30))
        assert [(start, window.tolist(), last) for start, window, last in found] == [
            (start, window.tolist(), last) for start, window, last in expected
        ]


@pytest.mark.parametrize("total", [101, 130, 131, 160, 999, 1000])
@pytest.mark.parametrize("hop", [1, 30, 99, 100])
def test_windows_hear_every_sample_and_the_last_ends_with_the_recording(total, hop):
    wave = np.arange(total, dtype=np.float32)
    windows = list(windows_of(iter([wave]), 100, hop))
    assert [start % hop for start, _, _ in windows[:-1]] == [0] * (len(windows) - 1)
    assert all(window.tolist() == list(range(start, start + 100)) for start, window, _ in windows)
    assert {sample for start, _, _ in windows for sample in range(start, start + 100)} == set(range(total))
    assert [last for _, _, last in windows] == [False] * (len(windows) - 1) + [True]
    assert windows[-1][0] + 100 == total


def test_levels_are_the_same_however_the_recording_is_cut_into_blocks():
    wave = noise(1)
    expected, found = [], []
    assert sum(map(len, metered(iter([wave]), 1600, expected))) == len(wave)
    list(metered(iter(cut(wave, 7, 5000, 3)), 1600, found))
    assert found == pytest.approx(expected)
    assert len(found) == 10


def test_quiet_frames_are_those_45_db_under_the_loudest():
    decibel = np.array([-10.0, -54, -56, -56, -56, -30])
    assert sounding(10 ** (decibel / 10), 3).tolist() == [True, True, False, False, False, True]
    assert sounding(10 ** (decibel / 10), 4).all()
    assert not sounding(np.full(2, 1e-9), 5).any()


def test_windows_that_agree_blend_into_what_they_agree_on():
    grid, total = Grid(4, 1, RATE_HZ), 16 * RATE_HZ + 123
    starts = np.array([*range(0, 12 * RATE_HZ, RATE_HZ), total - 4 * RATE_HZ])
    scores = np.tile([0.2, 0.8], (len(starts), 1))
    blended = blend_windows(scores, starts, grid, np.ones(162, bool), total)
    assert blended.shape == (17, 2)
    np.testing.assert_allclose(blended, np.tile([0.2, 0.8], (17, 1)))


def test_a_window_weighs_by_how_evenly_it_lies_around_a_time():
    grid = Grid(4, 1, RATE_HZ)
    starts = np.arange(13) * RATE_HZ
    for window in range(3, 10):
        scores = (np.arange(13) == window).astype(float)[:, None]
        weights = blend_windows(scores, starts, grid, np.ones(160, bool), 16 * RATE_HZ)[:, 0]
        # Middles of hops lie 0.5 and 1.5 s from the window's middle: 1 - 2 d / 4 is 3/4 and 1/4, of a sum of 2.
        np.testing.assert_allclose(weights[window : window + 4], [0.125, 0.375, 0.375, 0.125])
        assert weights.sum() == pytest.approx(1)


def test_a_window_weighs_by_how_much_of_it_sounds():
    grid, sound, starts = Grid(4, 2, RATE_HZ), np.ones(60, bool), np.array([0, 2 * RATE_HZ])
    sound[:20] = False
    blended = blend_windows(np.array([[1.0], [0.0]]), starts, grid, sound, 6 * RATE_HZ)[:, 0]
    # 3 s is 1 s from the middle of both; half of the first is silent.
    assert blended[1] == pytest.approx(1 / 3)


def test_runs_shorter_than_a_hop_join_their_neighbour_but_no_pause():
    kinds = np.array([1, 1, 1, 2, 1, 1, -1, -1, 3, 4, 4, 4])
    runs = [(int(first), int(end), None if own is None else own.tolist()) for first, end, own in runs_of(kinds, 2)]
    assert runs == [(0, 6, [0, 1, 2, 4, 5]), (6, 8, None), (8, 12, [9, 10, 11])]


def test_subtitles_leave_silence_out():
    segments = [
        {"start": 0.0, "end": 1.5, "label": "anger", "score": 0.934, "scores": [{"label": "anger", "score": 0.934}]},
        {"start": 1.5, "end": 2.0, "label": "silence", "score": None, "scores": []},
        {"start": 3661.0, "end": 3661.9996, "label": "خشم", "score": 1.0, "scores": [{"label": "خشم", "score": 1.0}]},
    ]
    assert "".join(srt(segments)) == (
        "1\n00:00:00,000 --> 00:00:01,500\nanger 93 %\n\n2\n01:01:01,000 --> 01:01:02,000\nخشم 100 %\n\n"
    )


def test_rttm_has_ten_fields_whatever_the_name():
    segment = {"start": 1.0, "end": 2.5, "label": "very sad", "score": 0.5, "scores": [{}]}
    (line,) = rttm([{"file": "my call\n.wav", "segments": [segment, {**segment, "scores": []}]}])
    assert line == "SPEAKER my_call\\n.wav 1 1.000 1.500 <NA> <NA> very_sad 0.5000 <NA>\n"


CLIPS = ("03a01Wa", "08a02Na", "10a04Fd", "16a05Tb", "11b09Ad")
WINDOW_SECONDS, HOP_SECONDS = 1.0, 0.25


def overfitted(waves: list[np.ndarray], labels: tuple[str, ...]) -> SERForAudioClassification:
    """A model trained on windows of a few clips, some of them hanging over the clip's ends, until it knows them."""
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    size, backbone = round(WINDOW_SECONDS * RATE_HZ), HubertConfig(**FILTERBANK, mask_time_prob=0.0)
    model = SERForAudioClassification(SERConfig(backbone_config=backbone, final_dropout=0.0, **names(labels)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    padded = [np.pad(wave, size // 2) for wave in waves]
    truth = torch.arange(len(waves)).repeat(4)
    for _ in range(120):
        starts = [draw.integers(0, len(padded[label]) - size) for label in truth]
        windows = [padded[label][start : start + size] for label, start in zip(truth, starts, strict=True)]
        batch = feature_extractor()(windows, sampling_rate=RATE_HZ, padding=True, return_tensors="pt")
        loss = model(**batch, labels=truth).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.slow
def test_borders_in_a_stitched_recording_fall_within_one_hop(emodb_dir):
    labels = ("anger", "neutral", "happiness", "sadness", "fear")
    waves = [read_wave(emodb_dir / "wav" / f"{clip}.wav") for clip in CLIPS]
    model = overfitted(waves, labels)
    pieces, truth, now = [], [], 0.0
    for wave, label in zip(waves, labels, strict=True):
        for piece, name in ((silence(1.0), "silence"), (wave, label)):
            truth.append((now, now + len(piece) / RATE_HZ, name))
            pieces.append(piece)
            now = truth[-1][1]
    classify = SERPipeline(model=model, feature_extractor=feature_extractor(), task="audio-classification")
    segments = classify(np.concatenate(pieces), window_seconds=WINDOW_SECONDS, hop_seconds=HOP_SECONDS)
    assert labels_of(segments) == [name for _, _, name in truth]
    found = np.array(spans(segments))
    np.testing.assert_allclose(found, [times[:2] for times in truth], atol=HOP_SECONDS)
