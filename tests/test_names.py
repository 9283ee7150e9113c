"""Names: what means nobody, which spellings are one, and which clip a path stands for."""

import unicodedata

import pytest

from ser.clip_names import matched, one_name_each, shortest_ids
from ser.names import alike, cell, check_speakers, folded, speaker_cell, tidy

EMPTY = (None, float("nan"), "", "  ", "NaN", "None", "null", "N/A", "n/a ", "<NA>", "\ufeff")


@pytest.mark.parametrize("value", EMPTY)
def test_what_tables_write_for_an_empty_cell_is_one(value):
    assert cell(value) is None
    assert speaker_cell(value) is None


def test_unknown_is_no_speaker_but_may_be_a_label():
    assert speaker_cell(" Unknown ") is None
    assert cell(" Unknown ") == "Unknown"


def test_cells_lose_the_blanks_around_them_and_become_composed():
    assert speaker_cell("\u200eS02 \u200b") == "S02"
    assert tidy(unicodedata.normalize("NFD", "fâché")) == "fâché"
    assert cell(7) == "7"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("S01", "s01"), ("S01", "s1"), ("03", "3"), ("3.0", "3"), ("spk 1", "SPK  01"), ("Ｓ01", "S01"),
        ("خشمگين", "خشمگین"), ("كاوه", "کاوه"), ("۳", "3"), ("می‌رود", "میرود"), ("STRASSE", "straße"),
    ],
)  # fmt: skip
def test_two_spellings_of_one_name_fold_into_the_same(one, other):
    assert folded(one) == folded(other)
    assert alike([one, other, "somebody else", None]) == [sorted([one, other])]


@pytest.mark.parametrize(("one", "other"), [("S01", "S10"), ("1", "10"), ("S1", "M1"), ("0", "00a"), ("1.5", "15")])
def test_two_names_stay_two(one, other):
    assert alike([one, other]) == []


def test_speakers_in_two_spellings_are_listed():
    with pytest.raises(ValueError, match=r"'03' and '3'; 'S01' and 's01'.*give --speakers_differ true"):
        check_speakers(["S01", "3", "s01", "03", None, "F02"])
    check_speakers(["S01", "S02", "03", None])


# ------------------------------------------------------------------------------------------------ names of clips
def test_a_path_of_another_machine_means_the_id_that_ends_it():
    ids = ["03a01Fa", "wav/08a01Na", "spk1/000", "spk2/000"]
    names = ["/home/x/emodb/03a01Fa.wav", "C:\\emodb\\wav\\08a01Na.WAV", "./spk1/000.flac", "data/spk2/000.wav"]
    assert list(matched(names, ids, "--splits_file").values()) == ids


def test_a_bare_name_means_the_one_id_that_ends_with_it():
    assert matched(["000", "nobody"], ["spk1/000", "spk1/001"], "x") == {"000": "spk1/000"}


@pytest.mark.parametrize(
    ("names", "ids", "message"),
    [
        (["000"], ["spk1/000", "spk2/000"], "--audio: '000' may be 'spk1/000' or 'spk2/000'"),
        (["a/000", "b/000"], ["000"], "--audio: 'a/000' and 'b/000' may both be '000'"),
        (["clips/x.wav"], ["wav/x"], "--audio: 'clips/x.wav' and 'wav/x' have one file name in different folders"),
    ],
)
def test_a_name_that_may_be_two_clips_is_an_error_that_names_them(names, ids, message):
    with pytest.raises(ValueError, match=message):
        matched(names, ids, "--audio")


def test_a_clip_that_the_corpus_lacks_is_not_taken_for_one_of_the_same_file_name():
    found = matched(["spk1/000", "spk2/000", "spk1/001"], ["spk1/000", "spk1/001"], "x")
    assert found == {"spk1/000": "spk1/000", "spk1/001": "spk1/001"}


def test_files_of_a_split_name_one_clip_with_more_or_fewer_folders():
    assert one_name_each([["x", "y"], ["wav/x.wav"]]) == {"x": "wav/x", "y": "y", "wav/x.wav": "wav/x"}
    assert one_name_each([["/data/me/s1/0.wav"], ["/data/me/s2/0.wav"]]) == {
        "/data/me/s1/0.wav": "s1/0",
        "/data/me/s2/0.wav": "s2/0",
    }
    assert one_name_each([["a", "deep/a"]]) == {"a": "a", "deep/a": "deep/a"}
    with pytest.raises(ValueError, match="'000' may be 's1/000' or 's2/000'"):
        one_name_each([["000"], ["s1/000", "s2/000"]])


def test_ids_of_absolute_paths_are_as_short_as_tells_them_apart():
    assert shortest_ids(["/home/me/a.wav", "/home/me/b.wav"]) == {"/home/me/a.wav": "a", "/home/me/b.wav": "b"}
    assert set(shortest_ids(["/home/me/s1/0.wav", "/mnt/s2/0.wav", "/mnt/s2/1.wav"]).values()) == {
        "s1/0",
        "s2/0",
        "s2/1",
    }
    assert shortest_ids([]) == {}
