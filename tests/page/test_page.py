import base64
import dataclasses
import re
import socket
import string
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes.tiny import noise, tiny_model

from ser.evaluation import format as words
from ser.inference.loading import load_pipeline, results_of_model
from ser.inference.output_formats import answer_columns, text_of
from ser.page import app, translations
from ser.page.answer import Answer, Limits, classify, outline
from ser.page.html import (
    answer_html,
    clock,
    error_html,
    examples_html,
    header_html,
    limits_html,
    text_html,
    threshold_of,
)
from ser_model import read_blocks

NASTY = '"><script>alert(1)</script>'
RESULTS = {
    "test": {
        "uar": 0.6226,
        "intervals": {"uar": [0.5806, 0.6641]},
        "per_class": {"anger": {"recall": 0.81}, "fear": {"recall": 0.213}, "sadness": {"recall": 0.5}},
    },
    "chance": {"uar": 0.2},
    "protocol": {"name": "speaker_kfold", "num_folds": 5, "folds": [0, 1, 2, 3, 4], "speaker_independent": True},
    "label_source": "modified",
    "corpus": {"name": "ShEMO", "language": "fa", "speakers": 87, "hours": 3.4},
    "calibration": {
        "temperature": 1.3,
        "precision_90": {"threshold": 0.71, "test": {"precision": 0.86, "coverage": 0.42}},
    },
}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    folder = tiny_model(tmp_path_factory.mktemp("model"))
    return load_pipeline(str(folder), "cpu")


@pytest.fixture
def recording(tmp_path):
    """Writes noise of some seconds as a file in a folder of its own."""

    def write(seconds, seed=0, rate_hz=16_000, name="clip.wav"):
        path = tmp_path / f"{seed}-{seconds}" / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, noise(seconds, seed, rate_hz), rate_hz)
        return path

    return write


def answer(scores=(("anger", 0.6), ("fear", 0.4)), segments=(), **changes):
    ranked = [{"label": label, "score": score} for label, score in scores]
    return Answer("clip.wav", 12.0, ranked, list(segments), np.array([0.5, 1.0]), Path("/x/heard.flac"), **changes)


def segment(start, end, label="anger", score=0.6):
    return {"start": start, "end": end, "label": label, "score": score, "scores": [{"label": label, "score": score}]}


def english(html):
    """What a reader of English sees, without tags."""
    shown = re.sub(r'<span class="fa".*?</span>', "", html.replace("<bdi>", "").replace("</bdi>", ""), flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", shown).split())


def test_the_page_scores_a_recording_as_the_pipeline_does(pipe, recording):
    path = recording(3.0, rate_hz=44_100)
    assert classify(pipe, path, Limits()).scores == pipe(str(path))


def test_the_copy_to_listen_to_is_sample_for_sample_what_the_model_heard(pipe, recording):
    path = recording(2.0, rate_hz=22_050)
    copy, rate_hz = soundfile.read(classify(pipe, path, Limits()).sound, dtype="float32")
    assert rate_hz == 16_000
    np.testing.assert_array_equal(copy, np.concatenate(list(read_blocks(path))))


def test_only_a_longer_recording_has_a_timeline_which_is_that_of_the_pipeline(pipe, recording):
    short, long = recording(3.0), recording(9.0)
    assert classify(pipe, short, Limits()).segments == []
    assert classify(pipe, long, Limits()).segments == pipe(str(long), timeline=True)


def test_visitors_at_the_same_time_get_the_answers_to_their_own_recordings(pipe, recording):
    paths = [recording(1.0 + seed / 4, seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda path: classify(pipe, path, Limits()), paths))
    assert [given.scores for given in answers] == [pipe(str(path)) for path in paths]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "0 bytes"), (b"these are words", "is not audio"), (None, "too short"), ("silence", "is silent")],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line_without_its_folder(pipe, tmp_path, content, reason):
    path = tmp_path / "a name.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, np.zeros(16_000 if content else 100), 16_000)
    with pytest.raises(ValueError, match=reason) as error:
        classify(pipe, path, Limits())
    assert str(tmp_path) not in str(error.value)
    assert "\n" not in str(error.value)
    assert translations.why(str(error.value))[1] != str(error.value), "no Persian for it"


def test_the_outline_is_as_high_as_the_loudest_sample_of_each_part():
    peaks = np.array([0.1, 0.4, 0.2, 0.2])
    np.testing.assert_allclose(outline(peaks, 2), [1.0, 0.5])
    assert len(outline(np.ones(7), 600)) == 7
    assert outline(np.zeros(3)).max() == 0


def test_below_the_threshold_the_page_is_not_sure_and_says_what_it_would_guess():
    assert "Not sure perhaps anger, 60 %" in english(answer_html(answer(), 0.61, False))
    assert "Not sure" not in english(answer_html(answer(), 0.6, False))
    assert "Not sure" not in english(answer_html(answer(), None, False))


def test_bars_stand_in_the_order_of_the_scores_in_both_languages():
    html = answer_html(answer(), None, False)
    bars = html[html.index('class="bars"') :]
    assert bars.index("anger") < bars.index("60") < bars.index("fear") < bars.index("40")
    assert "خشم" in bars
    assert "۴۰٪" in bars


def test_parts_of_the_timeline_lie_where_they_sound_and_pauses_have_no_row():
    silence = {**segment(3.0, 6.0, "silence", None), "scores": []}
    html = answer_html(answer(segments=[segment(0, 3.0), silence, segment(6.0, 12.0, "fear", 0.3)]), 0.5, False)
    assert "inset-inline-start: 50.000%; inline-size: 50.000%" in html
    assert html.count('class="play"') == 2
    assert "Not sure ( fear )" in english(html)


def test_a_name_or_label_that_tries_to_be_markup_stays_text():
    given = answer(((NASTY, 0.9), ("b", 0.1)), [segment(0, 12.0, NASTY)])
    given = dataclasses.replace(given, name=NASTY)
    results = {**RESULTS, "corpus": {"name": NASTY, "language": NASTY}, "label_source": NASTY}
    for html in (answer_html(given, 0.95, False), error_html(NASTY, NASTY), limits_html(results, NASTY, Limits(), 20)):
        assert "<script" not in html


def test_downloads_are_what_ser_predict_writes():
    given = answer(segments=[segment(0, 12.0)])
    files = re.findall(r'download="clip\.(\w+)" href="data:[^,]*,([^"]*)"', answer_html(given, None, False))
    columns = answer_columns(["anger", "fear"], True, False)
    for kind, content in files:
        expected = "".join(text_of([{"file": "clip.wav", "segments": given.segments}], kind, columns))
        assert base64.b64decode(content).decode() == expected
    assert [kind for kind, _ in files] == ["csv", "srt"]


def test_a_regression_has_values_and_neither_shares_nor_verdict():
    values = [{"label": "valence", "score": -0.25}, {"label": "arousal", "score": 1.5}]
    part = {"start": 0.0, "end": 12.0, "label": None, "score": None, "scores": values}
    html = answer_html(answer((("valence", -0.25), ("arousal", 1.5)), [part]), 0.9, True)
    assert "%" not in english(html)
    assert "\N{MINUS SIGN}0.250" in html
    assert "Not sure" not in html


def test_limits_give_the_figures_as_every_other_page_does():
    text = english(limits_html(RESULTS, "user/name", Limits(), 20))
    assert "UAR 0.623 [0.581, 0.664]" in text
    assert words.setting_of(RESULTS) in text
    assert "Trained on ShEMO, Persian, 87 speakers, 3 h 24 min" in text
    assert "It finds anger best (recall 0.810) and fear worst (recall 0.213)" in text
    assert "Under 71 %" in text
    assert "On test, 86 % of its answers were right, and it answered 42 %" in text
    assert "AI Act" in text


def test_without_figures_nothing_is_claimed():
    text = english(limits_html({}, "user/name", Limits(), 20))
    assert "comes without figures" in text
    assert "not calibrated" in text
    assert not re.search(r"\d %|0\.\d", text)


def test_a_speaker_dependent_result_says_so():
    dependent = {**RESULTS, "protocol": {**RESULTS["protocol"], "speaker_independent": False}}
    assert "expect lower scores for new speakers" in english(limits_html(dependent, "x", Limits(), 20))
    assert "expect lower scores for new speakers" not in english(limits_html(RESULTS, "x", Limits(), 20))


def test_a_model_of_all_clips_says_that_its_figures_are_those_of_the_folds():
    final = {**RESULTS, "final_fit": {"clips": 535}, "per_run": [{}] * 5}
    assert "The figures are those of 5 models trained in the same way" in english(limits_html(final, "x", Limits(), 20))
    assert "this one was trained on all clips" not in english(limits_html(RESULTS, "x", Limits(), 20))


def test_the_threshold_is_the_runs_own_or_none():
    assert threshold_of(RESULTS) == 0.71
    assert threshold_of({}) is None
    assert threshold_of({"calibration": {"precision_90": {"threshold": None}}}) is None


def test_results_are_read_from_the_runs_folder_where_it_has_them(tmp_path):
    assert results_of_model(str(tmp_path)) == {}
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(ValueError, match=r"results\.json: holds a list, expected a dict"):
        results_of_model(str(tmp_path))


def test_every_text_is_there_in_both_languages_with_the_same_values_in_it():
    for key, (first, second) in translations._TEXTS.items():
        fields = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (first, second)]
        assert fields[0] == fields[1], key
        assert re.search("[؀-ۿ]", second), key


def test_the_emotions_of_shemo_have_their_persian_names_and_strangers_keep_theirs():
    labels = ("anger", "fear", "happiness", "neutral", "sadness", "surprise", "Contempt")
    assert [translations.emotion(label)[1] for label in labels] == [
        *("خشم", "ترس", "شادی", "خنثی", "غم", "تعجب"),
        "Contempt",
    ]


def test_classes_that_nobody_knows_have_colours_of_their_own():
    colours = translations.colours_of(["anger", "a", "b", "c"])
    assert len(set(colours.values())) == 4


@pytest.mark.parametrize(("seconds", "text"), [(4.24, "0:04.2"), (59.97, "1:00.0"), (3723, "1:02:03.0")])
def test_a_place_in_a_recording_is_written_as_players_do(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("text", "persian"),
    [("[0.581, 0.664]", "[۰٫۵۸۱، ۰٫۶۶۴]"), ("1,234", "۱٬۲۳۴"), ("0:04.2", "۰:۰۴٫۲"), ("2 min 5 s", "۲ دقیقه ۵ ثانیه")],
)
def test_figures_and_times_have_persian_digits_and_commas(text, persian):
    assert translations.figure(text) == (text, persian)


def test_times_of_the_timeline_are_written_in_both_languages():
    html = answer_html(answer(segments=[segment(0, 4.2), segment(4.2, 12.0, "fear")]), None, False)
    for time in ("0:04.2", "۰:۰۴٫۲", "0:10", "۰:۱۰"):
        assert f">{time}<" in html


def test_the_protocol_is_said_in_persian_too():
    assert translations.setting(RESULTS)[1] == "مستقل از گوینده، ۵ بخشی، برچسب‌ها: اصلاح‌شده"
    one_fold = {**RESULTS, "protocol": {**RESULTS["protocol"], "folds": [0], "speaker_independent": False}}
    assert translations.setting(one_fold)[1].startswith("وابسته به گوینده، ۵ بخشی، فقط بخش ۰")
    assert translations.setting(one_fold)[1] in limits_html(one_fold, "x", Limits(), 20)
    assert set(translations._PROTOCOLS) == set(words._PROTOCOLS)


def test_sentences_of_the_limits_do_not_run_into_each_other():
    for language in ("en", "fa"):
        html = re.sub(rf'<span class="{language}".*?</span>', "", limits_html(RESULTS, "x", Limits(), 20), flags=re.S)
        assert not re.search(r"[^\W\d]\.[^\W\d]", re.sub("<[^>]*>", "", html.replace("<li>", " ")))


def test_the_number_of_parts_is_said_and_there_is_one_player():
    html = answer_html(answer(segments=[segment(0, 6.0), segment(6.0, 12.0, "fear")]), None, False)
    assert "2 parts" in english(html)
    assert "۲</bdi> بخش" in html
    assert "One part" in english(answer_html(answer(segments=[segment(0, 12.0)]), None, False))
    assert html.count("<audio") == answer_html(answer(), None, False).count("<audio") == 1


def test_a_model_of_synthetic_speech_says_that_it_means_nothing_for_people():
    synthetic = {**RESULTS, "corpus": {"name": "synthetic"}}
    for html in (limits_html(synthetic, "x", Limits(), 20), answer_html(answer(), None, False, synthetic=True)):
        assert "its answers and its score mean nothing for people" in english(html)
        assert "ساختگی" in html
    for html in (limits_html(RESULTS, "x", Limits(), 20), answer_html(answer(), None, False)):
        assert "mean nothing for people" not in html


def test_examples_are_named_in_words_and_told_apart():
    names = translations.example_names([("anger", "male"), ("anger", "male"), ("fear", "female"), ("calm", None)])
    assert [name for name, _ in names] == ["anger, a man", "anger, a man (2)", "fear, a woman", "calm"]
    assert names[1][1] == "خشم، یک مرد (۲)"
    assert english(examples_html(names)).startswith("Or try an example anger, a man anger, a man (2)")


def test_examples_have_the_labels_of_the_runs_predictions_or_their_file_names(tmp_path):
    import pandas as pd

    clips = [tmp_path / "F01A.wav", tmp_path / "M01S.wav"]
    table = tmp_path / "predictions.parquet"
    assert app._names_of(clips, table) == [("F01A", "F01A"), ("M01S", "M01S")]
    rows = {"id": ["M01S", "F01A"], "truth": ["sadness", "anger"], "gender": ["male", "female"]}
    pd.DataFrame(rows).to_parquet(table)
    assert [name for name, _ in app._names_of(clips, table)] == ["anger, a woman", "sadness, a man"]


def test_without_gradio_the_page_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'ser\[serve\]'"):
        app.check_gradio()


@pytest.mark.slow
def test_a_recording_and_its_copy_are_deleted_together_and_nobody_is_told(pipe, tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'ser[serve]'")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    made = app.make_page(pipe, str(tmp_path), Limits())
    from gradio.route_utils import delete_files_created_by_app

    recording = tmp_path / "abc" / "clip.wav"
    recording.parent.mkdir()
    soundfile.write(recording, noise(1.0), 16_000)
    made.upload_file_set.add(str(recording))
    (answering,) = (event.fn for event in made.fns.values() if event.api_name == "classify")
    assert "clip.wav" in answering(str(recording))
    assert len(list(recording.parent.iterdir())) == 2
    delete_files_created_by_app(made, age=None)
    assert list(recording.parent.iterdir()) == []
    assert not made.analytics_enabled


@pytest.mark.slow
def test_the_page_keeps_no_visit_beyond_its_bounds(pipe, tmp_path, monkeypatch):
    """Every answer without a session of its own begins one; Gradio would keep 10,000 with their answers."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'ser[serve]'")
    import httpx

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(app, "MAX_SESSIONS", 2)
    made = app.make_page(pipe, str(tmp_path), Limits())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made.launch(**app.look(), server_port=port, prevent_thread_lock=True, quiet=True)
    try:
        for _ in range(4):
            path = f"{made.local_api_url}call/classify"
            event = httpx.post(path, json={"data": [None]}).json()["event_id"]
            assert "event: complete" in httpx.get(f"{path}/{event}").text
        assert len(made.app.state_holder.session_data) == 2
        assert len(made._queue.event_analytics) == 1
    finally:
        made.close()


@pytest.mark.slow
def test_recordings_of_all_visitors_are_scored_in_one_thread(pipe, tmp_path, monkeypatch):
    """Memory that torch and the allocator keep for each thread is kept once."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'ser[serve]'")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    made, threads = app.make_page(pipe, str(tmp_path), Limits()), []

    def refuse(*_):
        threads.append(threading.get_ident())
        raise ValueError("is not audio")

    monkeypatch.setattr(app, "classify", refuse)
    (answering,) = (event.fn for event in made.fns.values() if event.api_name == "classify")
    both = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda path: (both.wait(), answering(path)), ["a.wav", "b.wav"]))
    assert ["a.wav" in answers[0][1], "b.wav" in answers[1][1]] == [True, True]
    assert len(threads) == 2
    assert len(set(threads)) == 1


def test_recordings_that_are_gone_are_forgotten_and_those_on_their_way_are_not(tmp_path):
    class Page:
        temp_file_sets = ({str(tmp_path / "clip.wav"), str(tmp_path / "gone" / "clip.wav")}, set())

    app.forget_deleted(Page)
    assert Page.temp_file_sets == ({str(tmp_path / "clip.wav")}, set())


def test_white_text_on_every_colour_of_the_timeline_can_be_read():
    def luminance(colour):
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for colour in (*translations.COLOURS.values(), *translations._OTHER_COLOURS):
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5, colour


def test_header_and_notes_speak_both_languages():
    for html in (header_html(), text_html("waiting")):
        assert 'lang="fa"' in html
        assert 'lang="en"' in html
