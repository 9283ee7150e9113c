"""Several corpora in one list: names, prefixes, labels, facts, and errors that say which entry they are about."""

import json

import pytest
import yaml
from fakes.fake_corpora import listed, prepared, touch, waves, write_emodb

from ser.data.audio import corpus_facts
from ser.data.data_arguments import DataArguments, read_data_arguments


def corpora(*entries, **options):
    return listed("shemo", corpora=json.dumps(list(entries)), **options)


@pytest.fixture
def folders(tmp_path):
    """EMO-DB's names, RAVDESS's, and a folder of one's own clips."""
    touch(tmp_path / "berlin", "03a01Wa.wav", "03a01La.wav", "08a01Ta.wav")
    touch(tmp_path / "toronto", "03-01-05-01-01-01-12.wav", "03-01-02-01-01-01-03.wav")
    touch(tmp_path / "mine", "angry/x.wav", "sad/x.wav")
    return tmp_path


def test_ids_and_speakers_say_their_corpus_and_labels_of_one_name_are_one_label(folders):
    corpus = corpora(
        {"corpus": "emodb", "data_dir": str(folders / "berlin"), "label_map": {"boredom": None}},
        {"corpus": "ravdess", "data_dir": str(folders / "toronto"), "label_map": {"calm": "neutral"}},
        {"corpus": "folder", "data_dir": str(folders / "mine"), "label_map": {"angry": "anger", "sad": "sadness"}},
    )
    assert [(r.id, r.corpus, r.speaker, r.emotion) for r in corpus.recordings] == [
        ("emodb/03a01Wa", "emodb", "emodb/03", "anger"),
        ("emodb/08a01Ta", "emodb", "emodb/08", "sadness"),
        ("mine/angry/x", "mine", None, "anger"),
        ("mine/sad/x", "mine", None, "sadness"),
        ("ravdess/03-01-02-01-01-01-03", "ravdess", "ravdess/03", "neutral"),
        ("ravdess/03-01-05-01-01-01-12", "ravdess", "ravdess/12", "anger"),
    ]
    assert corpus.labels == ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    assert corpus.located(corpus.recordings[0].path) == folders / "berlin" / "03a01Wa.wav"


def test_a_label_map_of_all_comes_after_those_of_the_entries(folders):
    entries = [
        {"corpus": "emodb", "data_dir": str(folders / "berlin"), "label_map": {"boredom": "calm"}},
        {"corpus": "ravdess", "data_dir": str(folders / "toronto")},
    ]
    mapping = {"calm": None} | dict.fromkeys(("disgust", "fear", "happiness", "neutral", "surprise"))
    corpus = corpora(*entries, label_map=json.dumps(mapping))
    assert corpus.labels == ("anger", "sadness")
    assert len(corpus.recordings) == 3
    with pytest.raises(ValueError, match=r"--label_map: --corpora has no label 'boredom'"):
        corpora(*entries, label_map='{"boredom": null}')


def test_one_corpus_from_two_folders_gets_two_names_and_keeps_its_speakers(folders):
    touch(folders / "more", "03a02Wa.wav", "09a01La.wav")
    entries = [{"corpus": "emodb", "data_dir": str(folders / name)} for name in ("berlin", "more")]
    corpus = corpora(*entries)
    assert {r.corpus for r in corpus.recordings} == {"emodb", "emodb-2"}
    # Speaker 03 is one person, whichever folder a clip comes from.
    assert {r.id for r in corpus.recordings if r.speaker == "emodb/03"} == {
        "emodb/03a01La",
        "emodb/03a01Wa",
        "emodb-2/03a02Wa",
    }
    named = corpora(entries[0] | {"name": "old"}, entries[1])
    assert {r.corpus for r in named.recordings} == {"old", "emodb"}


def test_the_facts_of_every_corpus_are_kept(folders):
    corpus = corpora(
        {"corpus": "emodb", "data_dir": str(folders / "berlin")},
        {"corpus": "ravdess", "data_dir": str(touch(folders / "toronto", "03-02-02-01-01-01-03.wav"))},
    )
    facts = corpus.facts
    assert facts["name"] == "EMO-DB, RAVDESS"
    assert facts["licence"] == "EMO-DB: CC BY 4.0; RAVDESS: CC BY-NC-SA 4.0"
    assert facts["language"] == "de, en"
    assert "Burkhardt" in facts["citation"]
    assert "Livingstone" in facts["citation"]
    assert facts["notes"] == ["RAVDESS: 1 songs are left out."]
    assert set(facts["corpora"]) == {"emodb", "ravdess"}
    assert facts["corpora"]["ravdess"]["licence"] == "CC BY-NC-SA 4.0"


def test_a_single_corpus_says_its_name_in_the_column_corpus(folders, tmp_path):
    assert {r.corpus for r in listed("emodb", folders / "berlin").recordings} == {"emodb"}
    assert {r.corpus for r in listed("folder", folders / "mine").recordings} == {"mine"}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("[{]", "--corpora: .* is not JSON"),
        ('{"corpus": "emodb"}', "must be a list of objects"),
        ("[]", "must be a list of objects"),
        ('[{"corpus": "emodb"}, {"data_dir": "x"}]', "--corpora, entry 2: has no key corpus"),
        ('[{"corpus": "emobd"}]', "--corpora, entry 1: --corpus: 'emobd' .* Did you mean 'emodb'"),
        ('[{"corpus": "emodb", "datadir": "x"}]', "entry 1: unknown key 'datadir'.* Did you mean 'data_dir'"),
        ('[{"corpus": "emodb", "manifest": "x"}]', "entry 1: --manifest: 'x' needs --corpus manifest"),
        ('[{"corpus": "emodb", "label_map": [1]}]', "entry 1: --label_map"),
        ('[{"corpus": "folder", "data_dir": 2024}]', "entry 1: data_dir: 2024 is not text; .* between quotes"),
        ('[{"corpus": "emodb", "name": "a/b"}]', "entry 1: name: 'a/b' has a slash"),
        (
            '[{"corpus": "emodb", "name": "a"}, {"corpus": "tess", "name": "a"}]',
            "entry 2: name: 'a' is the name of another",
        ),
    ],
)
def test_a_wrong_list_is_refused_with_the_number_of_its_entry(entries, words):
    with pytest.raises(ValueError, match=words):
        DataArguments(corpora=entries)


def test_an_entry_whose_folder_is_not_there_is_named(folders):
    entries = [{"corpus": "emodb", "data_dir": str(folders / "berlin")}, {"corpus": "tess", "data_dir": "none"}]
    with pytest.raises(FileNotFoundError, match=r"--corpora, entry 2 \(tess\): --data_dir: 'none' is not a folder"):
        corpora(*entries)
    with pytest.raises(ValueError, match="--data_dir: 'x', but --corpora is given"):
        corpora(*entries, data_dir="x")


def test_a_list_in_the_file_is_read_as_it_stands_and_written_back_so(folders, tmp_path):
    from ser.training.arguments import merged_arguments, parse_arguments

    entries = [
        {"corpus": "emodb", "data_dir": str(folders / "berlin"), "label_map": {"boredom": None}},
        {"corpus": "folder", "data_dir": str(folders / "mine"), "label_map": {"angry": "anger", "sad": "sadness"}},
    ]
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"corpora": entries, "output_dir": "out", "use_cpu": True}))
    args, _ = read_data_arguments([str(config)])
    assert list(args.entries()) == ["emodb", "mine"]
    parsed = parse_arguments([str(config)])
    assert merged_arguments(*parsed)["corpora"] == entries


def test_two_corpora_are_prepared_as_one_dataset(tmp_path):
    write_emodb(tmp_path / "one", "03a01Wa", "08a01La")
    write_emodb(tmp_path / "two", "03a01Wa", "10a01Ta")
    entries = [{"corpus": "emodb", "data_dir": str(tmp_path / name)} for name in ("one", "two")]
    dataset = prepared(tmp_path, corpora=json.dumps(entries))
    assert dataset["id"] == ["emodb-2/03a01Wa", "emodb-2/10a01Ta", "emodb/03a01Wa", "emodb/08a01La"]
    assert dataset["corpus"] == ["emodb-2", "emodb-2", "emodb", "emodb"]
    assert all(len(wave) == 3200 for wave in waves(dataset).values())
    assert set(corpus_facts(dataset)["corpora"]) == {"emodb", "emodb-2"}


def test_a_file_that_cannot_be_used_is_listed_with_its_corpus(tmp_path):
    write_emodb(tmp_path / "one", "03a01Wa", "08a01La")
    write_emodb(tmp_path / "two", "03a01Wa")
    (tmp_path / "two" / "03a01Wa.wav").write_bytes(b"")
    entries = [{"corpus": "emodb", "data_dir": str(tmp_path / name)} for name in ("one", "two")]
    with pytest.raises(ValueError, match=r"1 of 3 files cannot be used:\n  emodb-2/03a01Wa\.wav: "):
        prepared(tmp_path, corpora=json.dumps(entries))


def test_corpora_that_have_to_be_made_first_are_joined_when_they_are_there(tmp_path):
    pytest.importorskip("espeakng_loader")
    write_emodb(tmp_path / "one", "03a01Wa", "08a01La")
    entries = [{"corpus": "synthetic"}, {"corpus": "emodb", "data_dir": str(tmp_path / "one")}]
    options = {"synthetic_clips": 12, "synthetic_voices": 2}
    dataset = prepared(tmp_path, corpora=json.dumps(entries), **options)
    assert dataset["corpus"].count("synthetic") == 12
    assert dataset["corpus"].count("emodb") == 2


# ------------------------------------------------------------------------------------------------ leaks between them
@pytest.fixture
def borrowed(emodb_dir, tmp_path):
    """Half of EMO-DB's speakers, and another corpus of the other half that holds one clip of the first, quieter."""
    import soundfile

    names = sorted(path.stem for path in (emodb_dir / "wav").glob("*.wav"))
    one = [name for name in names if name[:2] in ("03", "08", "09")][::2]
    two = [name for name in names if name[:2] in ("13", "14", "15")][::2]
    for folder, own in (("one", one), ("two", two)):
        (tmp_path / folder).mkdir()
        for name in own:
            wave, rate_hz = soundfile.read(emodb_dir / "wav" / f"{name}.wav")
            soundfile.write(tmp_path / folder / f"{name}.wav", wave, rate_hz)
    wave, rate_hz = soundfile.read(emodb_dir / "wav" / f"{one[0]}.wav")
    soundfile.write(tmp_path / "two" / f"16{one[0][2:]}.wav", 0.5 * wave, rate_hz)
    entries = [{"corpus": "emodb", "data_dir": str(tmp_path / folder)} for folder in ("one", "two")]
    return prepared(tmp_path, corpora=json.dumps(entries)), f"emodb/{one[0]}", f"emodb-2/16{one[0][2:]}"


def test_a_recording_that_two_corpora_share_is_found_even_at_another_level(borrowed):
    from ser.data.audit import audit, audit_of_folds, what_is_wrong
    from ser.data.splits import check_split, make_split

    dataset, original, copy = borrowed
    splits = [make_split(dataset, "leave_one_corpus_out", fold) for fold in (0, 1)]
    for split in splits:
        found = audit(split, dataset)
        assert found["checked"]["near_identical_audio"]
        assert not found["ok"]
        pairs = [{pair["first"], pair["second"]} for pair in found["near_identical_audio"]]
        assert {original, copy} in pairs
    assert any("nearly identical" in line for line in what_is_wrong(splits[0], dataset))
    assert any("nearly identical" in line for line in audit_of_folds(splits, dataset)["leaks"])
    with pytest.raises(ValueError, match=rf"{copy} in \w+ = {original} in test.*--accept_near_copies"):
        check_split(splits[0], dataset)
    check_split(splits[0], dataset, accept_near_copies=True)


def test_a_recording_that_two_corpora_share_to_the_sample_is_refused(tmp_path):
    from ser.data.splits import check_split, make_split

    write_emodb(tmp_path / "one", "03a01Wa", "08a01La", "09a01Wa", "10a01La")
    write_emodb(tmp_path / "two", "11a01Wa", "12a01La", "13a01Wa", "14a01La")
    entries = [{"corpus": "emodb", "data_dir": str(tmp_path / name)} for name in ("one", "two")]
    mapping = json.dumps(dict.fromkeys(("disgust", "fear", "happiness", "neutral", "sadness")))
    dataset = prepared(tmp_path, corpora=json.dumps(entries), label_map=mapping)
    split = make_split(dataset, "leave_one_corpus_out")
    with pytest.raises(ValueError, match=r"are in two parts.*emodb-2/11a01Wa in \w+ = emodb/03a01Wa in test"):
        check_split(split, dataset)
