import base64
import io
import json
import os
import re
import shutil
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from fakes.fake_predictions import fake_regression
from fakes.fake_run import BASELINE, LABELS, context, predictions, training_log, write_run
from typer.testing import CliRunner

from ser.cli import app
from ser.evaluation import format as words
from ser.evaluation.figures import write_plots
from ser.evaluation.method import no_baseline_words, variance_words
from ser.evaluation.published import KEYS, published_figures, read_published
from ser.evaluation.report import MAX_CLIP_BYTES, MAX_CLIPS, recordings_in, write_report

pytestmark = pytest.mark.slow

NASTY = '"><script>alert(1)</script>'


class Page(HTMLParser):
    """The parts of a page: attributes by name, and the text of each section, the page's own under ""."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.text, self.section, self.skipping = [], [], {"": ""}, "", False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]
        self.skipping = tag in ("style", "title")
        if tag == "section":
            self.section = dict(attributes)["id"]
            self.text[self.section] = ""

    def handle_endtag(self, tag):
        self.skipping = False
        if tag == "section":
            self.section = ""

    def handle_data(self, data):
        if not self.skipping:
            self.text[self.section] = " ".join(f"{self.text[self.section]} {data}".split())

    def values_of(self, name):
        return [value for _, key, value in self.attributes if key == name]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run with every section, written once."""
    return write_run(tmp_path_factory.mktemp("run"), predictions(), LABELS, context(), training_log())


@pytest.fixture(scope="module")
def page(whole_run):
    """The page of that run, with audio."""
    return Page(write_report(whole_run, lambda clip: wav() + clip.encode()))


@pytest.fixture(scope="module")
def results(whole_run):
    """The results of that run."""
    return results_of(whole_run)


@pytest.fixture
def run(whole_run, tmp_path):
    """A copy of that run, to change."""
    return shutil.copytree(whole_run, tmp_path / "run")


def results_of(run):
    return json.loads((run / "results.json").read_text(encoding="utf-8"))


def change(run, **sections):
    (run / "results.json").write_text(json.dumps({**results_of(run), **sections}), encoding="utf-8")


def wav(seconds=0.1):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(int(16_000 * seconds)), 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def test_the_headline_is_that_of_the_results_and_only_the_verdict_stands_before_it(page, results):
    verdict, headline = words.verdict_of(results).text, words.headline(results)
    expected = f"{verdict} simulated speech · 6 classes · hubert, from scratch {headline}"
    assert page.text[""].replace("] ,", "],").startswith(expected)
    assert "does not beat the baseline (SVM on functionals, UAR 0.601 [0.550, 0.650])" in verdict


def test_a_beaten_baseline_takes_no_first_line(run):
    change(run, baseline={**BASELINE, "difference": {"uar": 0.1, "interval": [0.05, 0.15], "p": 0.0001}})
    text = Page(write_report(run)).text[""]
    assert text.index("6 classes") < text.index("This model beats the baseline")
    assert "p < 0.001" in text


def test_what_is_wrong_with_a_protocol_stands_before_all_sections(run):
    change(run, protocol={"name": "emobox_fold_1", "what_is_wrong": ["83 of 83 speakers are in train."]})
    text = Page(write_report(run)).text[""]
    assert "What is wrong with this protocol 83 of 83 speakers are in train." in text


def test_a_speaker_dependent_result_says_so_even_without_an_audit(run):
    change(run, protocol={"name": "random_kfold", "speaker_independent": False, "num_folds": 5})
    text = Page(write_report(run)).text[""]
    assert "speaker-dependent random 5-fold" in text
    assert "speakers of test clips may be in train" in text


def test_what_one_must_know_of_the_corpus_stands_before_all_sections(page):
    assert "Nobody ever said any of this." in page.text[""]


def test_every_score_of_a_class_stands_in_its_table(page, results):
    text, test = page.text["classes"], results["test"]
    for label in LABELS:
        scores = test["per_class"][label]
        recall = words.format_interval(scores["recall"], test["intervals"]["recall"][label])
        rest = [words.format_number(scores[key]) for key in ("precision", "f1")]
        assert " ".join([label, recall, *rest, str(scores["support"])]) in text


def test_genders_and_worst_speakers_are_those_of_the_results(page, results):
    text = page.text
    gap = results["gender"]["gap"]
    assert words.format_difference(gap["uar"], gap["intervals"]["uar"]) in text["gender"]
    worst = results["speakers"]["worst"][0]
    of = results["speakers"]["per_speaker"][worst]
    assert f"{worst} {of['gender']} {words.format_interval(of['uar'], of['intervals']['uar'])}" in text["speakers"]


def test_a_drop_under_noise_is_shown_as_a_change(page):
    assert "SNR 0 dB 0.300 [0.250, 0.350] \u22120.320 [\u22120.300, 0.000]" in page.text["robustness"]


def test_a_leak_that_the_audit_found_is_told_with_what_it_did_not_look_for(page):
    text = page.text["split"]
    assert "17 of 20 speakers of test are in train." in text
    assert "Nobody looked for near-identical recordings." in text
    assert "There are no identical recordings in two parts." in text
    assert "663d8d7dceb44adbbf87d84be3a080fb" in text


def test_sections_without_results_are_left_out(tmp_path):
    table = predictions().assign(speaker=None, gender=None)
    page = Page(write_report(write_run(tmp_path, table[table["split"] == "test"], LABELS, {})))
    assert set(page.text) == {"", "classes", "calibration", "corpus", "clips", "cite"}


def test_a_run_scored_on_dev_alone_is_labelled_dev(tmp_path):
    table = predictions()
    text = Page(write_report(write_run(tmp_path, table[table["split"] == "dev"], LABELS, {}))).text
    assert "dev UAR" in text[""]
    assert "all classes dev UAR" in text["classes"]


def test_folds_and_seeds_are_listed_and_summed_up(tmp_path):
    temperatures = [{"seed": seed, "fold": fold, "temperature": 1.2} for seed in (1, 2) for fold in range(3)]
    sections = {**context(), "calibration": {"per_run": temperatures}}
    run = write_run(tmp_path, predictions(seeds=(1, 2), folds=3), LABELS, sections)
    text, results = Page(write_report(run)).text["runs"], results_of(run)
    for row in results["per_run"]:
        scores = " ".join(words.format_number(row[key]) for key in ("uar", "accuracy", "macro_f1"))
        assert f"{row['seed']} {row['fold']} {scores} {row['n']}" in text
    spread = results["folds"]["uar"]
    assert f"over folds {words.format_number(spread['mean'])} ± {words.format_number(spread['std'])}" in text


def test_a_regression_shows_ccc_and_a_scatter_of_each_dimension(tmp_path):
    run = write_run(tmp_path, fake_regression(), ["arousal", "valence"], {})
    page, test = Page(write_report(run)), results_of(run)["test"]
    assert words.headline(results_of(run)).startswith("CCC")
    for name in ("arousal", "valence"):
        ccc = words.format_interval(test["per_dimension"][name]["ccc"], test["intervals"]["per_dimension"][name])
        assert f"{name} {ccc}" in page.text["dimensions"]
        assert f"Predicted against annotated {name}" in page.values_of("aria-label")


def test_text_from_data_is_never_markup(tmp_path):
    labels = [NASTY, "عصبانیت", "$x^{2", "</style><img src=x>", "a" * 200, "fear"]
    sections = context(labels)
    sections["corpus"] |= {"name": NASTY, "citation": NASTY, "licence": NASTY}
    sections["corpus"]["skipped"] = [{"path": NASTY, "reason": NASTY}]
    sections["audit"]["leaks"] = sections["protocol"]["what_is_wrong"] = [NASTY]
    sections |= {"label_source": NASTY, "config": {NASTY: NASTY}, "versions": {NASTY: NASTY}}
    sections |= {"baseline": {**BASELINE, "name": NASTY}, "model": {"backbone": NASTY}}
    path = write_report(
        write_run(tmp_path, predictions(labels, mark=NASTY), labels, sections, training_log()), lambda _: wav()
    )
    page, source = Page(path), path.read_text(encoding="utf-8")
    assert not {"script", "img", "iframe", "object", "embed", "form"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    for section in ("", "classes", "baseline", "speakers", "corpus", "split", "clips", "configuration", "cite"):
        assert NASTY in page.text[section], section
    assert unescape(source).count("<script>") == source.count("&lt;script&gt;")


def test_the_page_asks_for_nothing_outside_itself(page, whole_run):
    assert all(
        value.startswith(("data:", "#")) for name in ("src", "href", "xlink:href") for value in page.values_of(name)
    )
    assert "url(" not in re.sub(r"url\(#", "", (whole_run / "report.html").read_text(encoding="utf-8"))
    policy = next(value for value in page.values_of("content") if "default-src" in value)
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_ids_in_the_page_are_unique(page):
    ids = page.values_of("id")
    assert len(ids) == len(set(ids))


def test_a_clip_that_is_surely_wrong_can_be_heard(page, results):
    players = [value for tag, name, value in page.attributes if tag == "audio" and name == "src"]
    worst = results["worst_clips"]
    assert 0 < len(players) == len(worst) <= MAX_CLIPS
    assert base64.b64decode(players[0].removeprefix("data:audio/wav;base64,")) == wav() + worst[0]["id"].encode()
    assert "check the licence" in page.text["clips"]


def test_clips_are_listed_without_a_player_where_there_is_no_audio(run):
    first, second, *_ = (clip["id"] for clip in results_of(run)["worst_clips"])
    page = Page(write_report(run, lambda clip: {second: bytes(MAX_CLIP_BYTES + 1)}[clip]))
    assert "audio" not in page.tags
    assert first in page.text["clips"]
    assert "check the licence" not in page.text["clips"]


def test_many_long_clips_do_not_make_an_endless_page(run):
    path = write_report(run, lambda _: bytes(MAX_CLIP_BYTES))
    assert path.stat().st_size < 12_000_000


@pytest.mark.slow
def test_the_same_run_gives_the_same_page(run):
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_a_failure_while_writing_leaves_the_old_page_and_nothing_else(run, monkeypatch):
    (run / "report.html").write_text("the old page")
    files = sorted(os.listdir(run))

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        write_report(run)
    assert (run / "report.html").read_text() == "the old page"
    assert sorted(os.listdir(run)) == files


@pytest.mark.parametrize("name", ["results.json", "predictions.parquet"])
def test_a_folder_that_is_no_run_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        write_report(run)


@pytest.mark.parametrize(
    ("text", "reason"), [("{", ": is not JSON"), ("[1]", ": holds a list, expected a dict"), ("{}", " holds no `task`")]
)
def test_results_that_are_none_are_named(run, text, reason):
    (run / "results.json").write_text(text)
    with pytest.raises(ValueError, match=rf"results\.json{reason}"):
        write_report(run)


def test_every_plot_of_a_run_becomes_a_png(run):
    names = {path.name for path in write_plots(run)}
    assert {"confusion_matrix.png", "training_curves.png", "reliability.png", "speakers.png", "robustness.png"} <= names
    assert all((run / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_the_command_writes_the_page_with_audio_of_a_folder(run, tmp_path):
    clip = results_of(run)["worst_clips"][0]["id"]
    folder = tmp_path / "corpus" / "female"
    folder.mkdir(parents=True)
    (folder / f"{clip}.wav").write_bytes(wav())
    result = CliRunner().invoke(app, ["report", str(run), "--audio", str(folder.parent)])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(run / "report.html")
    assert Page(run / "report.html").tags.count("audio") == 1


def test_recordings_of_one_file_name_are_told_apart_by_their_folders(tmp_path):
    for speaker in ("s1", "s2"):
        (tmp_path / speaker).mkdir()
        (tmp_path / speaker / "000.wav").write_bytes(speaker.encode())
    (tmp_path / "s2" / "001.wav").write_bytes(b"alone")
    audio = recordings_in(tmp_path)
    assert [audio(clip) for clip in ("s1/000", "s2/000", "001")] == [b"s1", b"s2", b"alone"]
    with pytest.raises(KeyError):
        audio("000")


def test_the_command_says_in_one_line_that_there_is_no_run(tmp_path):
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert "results.json is not there" in result.output
    assert "Traceback" not in result.output


def test_a_published_figure_stands_beside_a_run_under_the_same_protocol_alone():
    own = {"corpus": {"name": "ShEMO"}, "protocol": {"name": "emobox_fold_1"}, "label_source": "filename"}
    found = published_figures(own)
    assert [(row["score"], "2406.07162" in row["source"]) for row in found] == [("UAR 0.802", True)]
    for other in (
        {"protocol": {"name": "speaker_kfold"}},
        {"label_source": "modified"},
        {"corpus": {"name": "EMO-DB"}},
    ):
        assert published_figures(own | other) == []


def test_every_published_figure_has_a_source_and_says_what_is_wrong_with_it():
    for row in read_published():
        assert set(row) == KEYS
        assert 0 < row["value"] < 1
        assert row["source"]
        assert row["wrong"]


def test_a_run_without_a_baseline_says_how_to_make_one_and_variances_stand_side_by_side():
    results = {"task": "classification", "config": {"output_dir": "runs/a"}, "seeds": {"uar": {"std": 0.012}}}
    results["test"] = {"uar": 0.6, "interval_unit": "speaker", "intervals": {"uar": [0.5, 0.7]}}
    assert no_baseline_words(results).endswith("ser baseline run_config.yaml")
    assert no_baseline_words({**results, "task": "regression"}) == ""
    assert "0.012 between seeds (standard deviation), and by 0.050 between draws of speakers" in variance_words(results)
    assert variance_words({**results, "seeds": {}}) == ""
