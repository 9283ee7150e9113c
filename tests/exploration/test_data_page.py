import re
import sys
from collections import Counter
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from fakes.fake_corpora import prepared
from fakes.tones import CLASSES, write_tones
from scipy import stats

import data_prep
from ser.data.audio import undecoded
from ser.data.data_arguments import DataArguments
from ser.data.statistics_cache import FOLDER, note_statistics
from ser.evaluation import theme
from ser.exploration import figures, measured_corpus
from ser.exploration.data_page import render_data_page, write_data_page
from ser.exploration.figures import COLOURS, named_groups
from ser.exploration.measured_corpus import evenly, measure_corpus
from ser.exploration.projection import corpus_features, plane_of
from ser.exploration.voice_section import over_speakers, voice_section

pytestmark = pytest.mark.slow

NASTY = '"><script>alert(1)</script>'


class Page(HTMLParser):
    """The ids, addresses and text of a page; it must close what it opens."""

    EMPTY = ("meta", "link", "br", "img", "input", "use", "path")

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.addresses, self.words, self.tags = [], [], [], [], Counter()
        self.source = text
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        if tag not in self.EMPTY:
            self.open.append(tag)
        self.read(attributes)

    def handle_startendtag(self, tag, attributes):
        self.read(attributes)

    def read(self, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def tones(folder, change=lambda line: line, **options):
    """The corpus of tones; `change` changes a line of its manifest, or leaves it out with None."""
    manifest = write_tones(folder / "tones", clips_per_class=1)
    head, *lines = manifest.read_text().splitlines()
    lines = [line for line in map(change, lines) if line is not None]
    manifest.write_text("\n".join([head, *lines]) + "\n")
    return prepared(folder, "manifest", manifest=str(manifest), **options)


def page_of(dataset, folder):
    return Page(write_data_page(dataset, folder, DataArguments(cache_dir=str(folder), num_proc=1)).read_text("utf-8"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tones(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def page(dataset, tmp_path_factory):
    """The page of the whole corpus, painted."""
    return page_of(dataset, tmp_path_factory.mktemp("page"))


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves out the pictures, which take most of the time."""
    monkeypatch.setattr(theme, "to_svg", lambda figure, name, title: "<svg></svg>")
    for name in ("bars_by_gender", "speakers_by_class", "violins", "points", "histogram"):
        monkeypatch.setattr(figures, name, lambda *_: None)


# ------------------------------------------------------------------------------------------------------ a whole corpus
def test_the_page_has_each_section_once_and_no_address_outside_it(page):
    assert {"classes", "voices", "plane", "signal", "worst", "copies"} <= set(page.ids)
    assert max(Counter(page.ids).values()) == 1
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert page.tags["script"] == 0


def test_every_picture_has_a_text_alternative_and_a_caption(page):
    pictures = re.findall(r"<svg[^>]*>", page.source)
    assert len(pictures) == page.tags["figcaption"] >= 11
    assert all('role="img"' in picture and "aria-label=" in picture for picture in pictures)
    assert page.tags["caption"] >= 4
    assert "pitch by emotion, in Hz: medians anger" in page.source


def test_the_table_of_classes_counts_clips_hours_speakers_and_genders(page):
    for name in CLASSES:
        assert re.search(rf"{name} 6 0\.00 \d\.\d\d s 6 3 3", page.text)


def test_the_noisiest_clips_are_audible_and_few_and_short(page):
    players = [address for address in page.addresses if address.startswith("data:audio/wav;base64,")]
    assert page.tags["audio"] == len(players) == 3
    assert max(map(len, players)) < 6.1 * 32_000 * 4 / 3
    assert "check the licence" in page.text


def test_the_share_of_speakers_and_emotions_is_told_in_a_sentence_and_a_table(page):
    assert re.search(r"Speakers explain .* % of the variance of these features, emotions .* %", page.text)
    assert "204 acoustic functionals" in page.text
    assert "The cache holds none of this corpus; functionals are shown." in page.text


def test_names_that_are_markup_stay_text(tmp_path, undrawn):
    def nasty(line):
        return line.replace("anger,", f'"{NASTY.replace(chr(34), chr(34) * 2)}",') if ",anger," in line else line

    page = page_of(tones(tmp_path, nasty), tmp_path)
    assert page.tags["script"] == 0
    assert NASTY in page.text


# ---------------------------------------------------------------------------------------------- what a corpus may lack
def test_a_corpus_without_speakers_and_genders_says_what_it_lacks_and_makes_no_test(tmp_path, undrawn):
    page = page_of(tones(tmp_path, lambda line: ",".join([*line.split(",")[:2], "", ""])), tmp_path)
    assert "No test is made: it needs 5 known speakers" in page.text
    assert "All 18 clips name none. It cannot be checked whether train and test share speakers" in page.text
    assert "All 18 clips name none. Scores cannot be broken down by gender." in page.text
    assert "All 18 clips have none. Training does not use them." in page.text
    assert "Whether clips of one speaker lie together cannot be told" in page.text


def test_clips_of_one_class_have_nothing_to_compare(dataset, tmp_path, undrawn):
    page = page_of(dataset.select(np.flatnonzero(np.array(dataset["emotion"]) == 0)), tmp_path)
    assert "No clip has the class neutral, sadness." in page.text
    assert "There are no two classes to compare." in page.text
    assert "Whether clips of one speaker lie together cannot be told" in page.text  # each has a single clip


def test_a_corpus_of_numbers_instead_of_classes_is_shown_as_a_whole(tmp_path, undrawn):
    manifest = write_tones(tmp_path / "tones", clips_per_class=1, targets=True)
    rows = [line.split(",") for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(",".join([row[0], *row[2:]]) + "\n" for row in rows))  # without the column label
    dataset = prepared(tmp_path, "manifest", manifest=str(manifest), target_columns="valence,arousal")
    page = page_of(dataset, tmp_path)
    assert "There are none: nothing is shown by emotion." in page.text
    assert "all clips 18" in page.text


def test_three_clips_by_nobody_are_enough_for_a_page(tmp_path, undrawn):
    lines = iter(range(18))
    dataset = tones(tmp_path, lambda line: line if next(lines) < 3 else None)
    assert "Recording quality" in page_of(dataset, tmp_path).text


def test_a_recording_under_two_labels_comes_first(tmp_path, undrawn):
    manifest = write_tones(tmp_path / "tones", clips_per_class=1)
    wave, rate = soundfile.read(tmp_path / "tones" / "s0_anger_0.wav")
    soundfile.write(tmp_path / "tones" / "copy.wav", wave, rate, subtype="PCM_16")
    with manifest.open("a") as file:
        file.write("copy.wav,neutral,s0,female\n")
    page = page_of(prepared(tmp_path, "manifest", manifest=str(manifest)), tmp_path)
    assert "2 clips are copies of another, in 1 group." in page.text
    assert "Copies have different labels in 1 group: copy = s0_anger_0." in page.text
    assert page.text.index("copies of another") < page.text.index("Classes")


def test_a_clipped_clip_is_counted_named_and_played(tmp_path, undrawn):
    manifest, time = write_tones(tmp_path / "tones", clips_per_class=1), np.arange(16_000) / 16_000
    loud = np.clip(1.5 * np.sin(2 * np.pi * 150 * time) * np.sin(2 * np.pi * time), -0.8, 0.8)
    soundfile.write(tmp_path / "tones" / "s0_anger_0.wav", loud, 16_000, subtype="PCM_16")
    page = page_of(prepared(tmp_path, "manifest", manifest=str(manifest)), tmp_path)
    assert "1 of 18 clips are clipped" in page.text
    assert re.search(r"clipping \d+\.\d\d % s0_anger_0", page.text)


# ------------------------------------------------------------------------------------------------------- real numbers
@pytest.mark.slow
def test_the_tests_on_real_speech_are_scipys_on_means_of_speakers(emodb_dir, tmp_path):
    dataset = prepared(tmp_path, data_dir=emodb_dir, max_clips=60)
    corpus = measure_corpus(dataset, str(tmp_path))
    table = corpus.voices.groupby(["speaker", "emotion"])["pitch"].mean().unstack()
    found = over_speakers(corpus, corpus.voices, "pitch")
    whole = table.dropna()
    if len(whole) >= 5:
        assert found.p == pytest.approx(stats.friedmanchisquare(*whole.to_numpy().T).pvalue)
    else:
        groups = [table[name].dropna() for name in corpus.classes]
        assert found.p == pytest.approx(stats.kruskal(*groups).pvalue)
    rows, plots = voice_section(corpus)
    assert len(rows) == len(plots) == 6
    medians = corpus.voices.groupby("emotion")["pitch"].median()
    assert f"anger {medians['anger']:.3g}" in plots["pitch"].title


# ------------------------------------------------------------------------------------------------- frozen features
def test_features_that_a_run_left_are_taken_those_of_its_own_encoder_first(dataset, tmp_path):
    rows = np.arange(len(dataset))
    assert not corpus_features(dataset, tmp_path, rows).is_frozen
    for name in ("first", "second"):
        table = np.random.default_rng(len(name)).standard_normal((len(dataset), 5, 8)).astype(np.float32)
        (tmp_path / FOLDER).mkdir(exist_ok=True)
        np.save(tmp_path / FOLDER / f"{name}.npy", table)
        note_statistics(tmp_path / FOLDER / f"{name}.npy", dataset, name)
    found = corpus_features(dataset, tmp_path, rows[::2], "second")
    assert (found.source, found.is_frozen) == ("layer 2 of 4 of the frozen second", True)
    half = table[::2, 2, :4]
    np.testing.assert_allclose(found.values, (half - half.mean(0)) / half.std(0), atol=1e-4)
    assert not corpus_features(dataset.select(range(9)), tmp_path, np.arange(9)).is_frozen


def test_the_plane_is_that_of_the_principal_components_without_umap(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    values = np.random.default_rng(0).standard_normal((50, 6)) * [5, 3, 1, 1, 1, 1]
    plane = plane_of(values)
    centred = values - values.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    assert plane.method == "PCA"
    np.testing.assert_allclose(plane.shares, singular[:2] ** 2 / (singular**2).sum())
    np.testing.assert_allclose(np.linalg.norm(plane.points, axis=0), singular[:2])
    assert plane_of(values[:2]) is None


def test_the_plane_is_that_of_umap_where_it_is_installed(monkeypatch):
    chosen = {}

    class Fake:
        def __init__(self, **options):
            chosen.update(options)

        def fit_transform(self, values):
            return values[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Fake))
    plane = plane_of(np.random.default_rng(0).standard_normal((50, 6)))
    assert (plane.method, plane.shares, plane.points.shape) == ("UMAP", None, (50, 2))
    assert chosen["random_state"] is not None  # the same page twice


# -------------------------------------------------------------------------------------------------------- its limits
def test_a_large_corpus_is_measured_evenly_spaced_and_the_page_says_so(dataset, tmp_path, monkeypatch, undrawn):
    monkeypatch.setattr(measured_corpus, "MAX_VOICE_CLIPS", 10)
    monkeypatch.setattr(measured_corpus, "MAX_SIGNAL_CLIPS", 15)
    corpus = measure_corpus(dataset, str(tmp_path))
    assert (len(corpus.voices), len(corpus.signal), len(corpus.clips)) == (10, 15, 18)
    stored = undecoded(dataset)
    page = Page(render_data_page(corpus, lambda row: np.zeros(len(stored[row]["audio"]["bytes"]), np.float32)))
    for words in ("Measured on 10 clips, evenly spaced", "Measured on 15 clips, evenly spaced", "were not looked for"):
        assert words in page.text
    assert len(measure_corpus(dataset, str(tmp_path), everything=True).voices) == 18


@pytest.mark.parametrize(("count", "most"), [(7, 10), (10, 10), (1000, 7), (5001, 5000), (3, 2)])
def test_evenly_spaced_rows_are_in_order_and_none_comes_twice(count, most):
    rows = evenly(count, most)
    assert len(rows) == min(count, most)
    assert (np.diff(rows) > 0).all()
    assert rows[0] == 0
    assert rows[-1] < count


def test_of_many_speakers_the_twelve_with_the_most_clips_get_a_colour():
    groups = [f"s{n:02}" for n in range(20) for _ in range(n + 1)] + [None]
    named, others = named_groups(groups)
    assert named == [f"s{n:02}" for n in range(8, 20)]
    assert others.sum() == sum(range(1, 9)) + 1


@pytest.mark.parametrize("background", ["#ffffff", "#14171b"])
@pytest.mark.parametrize("colour", COLOURS)
def test_the_colours_of_groups_stand_out_by_three_to_one_from_the_light_and_the_dark_page(colour, background):
    def luminance(code):
        share = np.array([int(code[start : start + 2], 16) for start in (1, 3, 5)]) / 255
        return float(
            np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    dark, light = sorted((luminance(colour), luminance(background)))
    assert (light + 0.05) / (dark + 0.05) >= 3


# -------------------------------------------------------------------------------------------------- the command line
def test_data_prep_writes_the_page_unless_it_is_told_not_to(tmp_path, capsys, undrawn):
    config = tmp_path / "run.yaml"
    config.write_text(f"corpus: manifest\nmanifest: {write_tones(tmp_path / 'tones', 1)}\ncache_dir: {tmp_path}\n")
    options = ["--num_proc", "1", "--output_dir"]
    data_prep.main([str(config), *options, str(tmp_path / "without"), "--data_page", "false"])
    assert not (tmp_path / "without" / "data.html").exists()
    data_prep.main([str(config), *options, str(tmp_path / "with")])
    assert f"wrote {tmp_path / 'with' / 'data.html'}" in capsys.readouterr().out
    Page((tmp_path / "with" / "data.html").read_text("utf-8"))
