"""The grammars of corpora that are known by name, on names and label files made by hand from their documentation."""

import json
from collections import Counter

import pytest
from fakes.fake_corpora import listed, problems, touch

from ser.data.data_arguments import CORPORA
from ser.data.splits import make_split

FOUR_CLASSES = {"excitement": "happiness"} | dict.fromkeys(["disgust", "fear", "frustration", "other", "surprise"])


def described(corpus):
    """Emotion, speaker and gender by id."""
    return {r.id: (r.emotion, r.speaker, r.gender) for r in corpus.recordings if not r.problem}


def write(folder, name, *lines):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def columns_of(corpus):
    good = [r for r in corpus.recordings if not r.problem]
    kinds = ("id", "speaker", "gender", "emotion", "split", "session")
    return {kind: [getattr(r, kind) for r in good] for kind in kinds}


# ---------------------------------------------------------------------------------------- names that say everything
NAMES = {
    "crema_d": ("AudioWAV/1001_IEO_ANG_HI.wav", "1001_IEO_ANG_HI", "anger", "1001", None),
    "tess": ("YAF_happy/YAF_mouse_happy.wav", "YAF_mouse_happy", "happiness", "YAF", "female"),
    "savee": ("DC/su07.wav", "DC_su07", "surprise", "DC", "male"),
    "urdu": ("Sad/SF11_F4_S06.wav", "SF11_F4_S06", "sadness", "SF11", "female"),
    "emovo": ("m2/pau-m2-l4.wav", "pau-m2-l4", "fear", "m2", "male"),
    "cafe": ("Colere/Fort/06-C-2-1.wav", "06-C-2-1", "anger", "06", "female"),
}


@pytest.mark.parametrize("corpus", NAMES)
def test_a_name_tells_emotion_speaker_and_gender_and_another_name_is_a_problem(corpus, tmp_path):
    path, name, *expected = NAMES[corpus]
    found = listed(corpus, touch(tmp_path, path, "holiday.wav"))
    assert described(found) == {name: tuple(expected)}
    assert "outside the grammar" in problems(found)["holiday.wav"]


def test_every_corpus_says_what_it_is_and_what_to_cite(tmp_path):
    for corpus, (path, *_) in NAMES.items():
        facts = listed(corpus, touch(tmp_path / corpus, path)).facts
        assert facts["name"]
        assert facts["homepage"].startswith("http")
        assert "20" in facts["citation"]
        assert len(facts["language"]) == 2


@pytest.mark.parametrize(
    "corpus", [name for name in CORPORA if name not in ("shemo", "manifest", "dataset", "synthetic")]
)
def test_every_corpus_asks_for_its_folder_by_flag(corpus):
    with pytest.raises(ValueError, match=f"--data_dir: --corpus {corpus} needs the folder"):
        listed(corpus)


# ------------------------------------------------------------------------------------------------------- CREMA-D
def test_crema_d_reads_genders_from_its_table_of_actors(tmp_path):
    write(tmp_path, "VideoDemographics.csv", "ActorID,Age,Sex,Race,Ethnicity", "1001,51,Male,Caucasian,Not Hispanic")
    touch(tmp_path, "AudioWAV/1001_DFA_NEU_XX.wav", "AudioWAV/1002_TIE_SAD_LO.wav")
    expected = {
        "1001_DFA_NEU_XX": ("neutral", "1001", "male"),
        "1002_TIE_SAD_LO": ("sadness", "1002", None),
    }
    assert described(listed("crema_d", tmp_path)) == expected
    assert described(listed("crema_d", tmp_path / "AudioWAV")) == expected


def test_crema_ds_copies_as_mp3_are_not_taken_for_other_clips(tmp_path):
    touch(tmp_path, "AudioWAV/1040_ITH_SAD_X.wav", "AudioMP3/1040_ITH_SAD_X.mp3")
    corpus = listed("crema_d", tmp_path)
    assert [r.path for r in corpus.recordings] == ["AudioWAV/1040_ITH_SAD_X.wav"]
    assert "genders are not known" in corpus.facts["notes"][0]


# ----------------------------------------------------------------------------------------------------- TESS, SAVEE
def test_tess_has_one_name_without_its_f_and_writes_pleasant_surprise_as_ps(tmp_path):
    corpus = listed("tess", touch(tmp_path, "OA_bite_neutral.wav", "OAF_youth_ps.wav"))
    assert described(corpus) == {
        "OA_bite_neutral": ("neutral", "OAF", "female"),
        "OAF_youth_ps": ("surprise", "OAF", "female"),
    }
    assert corpus.recordings[0].transcript == "Say the word youth."


def test_savees_speakers_are_its_folders_or_stand_in_its_names(tmp_path):
    corpus = listed("savee", touch(tmp_path, "DC/a01.wav", "JE/a01.wav", "KL_sa15.wav", "ALL/a01.wav"))
    assert described(corpus) == {
        "DC_a01": ("anger", "DC", "male"),
        "JE_a01": ("anger", "JE", "male"),
        "KL_sa15": ("sadness", "KL", "male"),
    }
    assert list(problems(corpus)) == ["ALL/a01.wav"]
    assert described(listed("savee", tmp_path / "DC")) == {"DC_a01": ("anger", "DC", "male")}


# --------------------------------------------------------------------------------------------------------- IEMOCAP
def write_iemocap(folder):
    """Two turns a speaker in each of five sessions, one more that raters did not agree on, and one without a label."""
    for session in range(1, 6):
        dialog, home = f"Ses0{session}F_impro01", f"Session{session}"
        turns = [f"{dialog}_{who}{number:03d}" for who in "FM" for number in (0, 1)]
        codes = ["ang", "exc", "neu", "hap"]
        labels = [
            f"[6.2901 - 8.2357]\t{turn}\t{code}\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()"
            for turn, code in zip([*turns, f"{dialog}_M002"], [*codes, "xxx"], strict=True)
        ]
        write(folder, f"{home}/dialog/EmoEvaluation/{dialog}.txt", "% [START_TIME - END_TIME] TURN_NAME", "", *labels)
        write(folder, f"{home}/dialog/EmoEvaluation/Categorical/{dialog}_e1_cat.txt", f"{turns[0]} :Anger; ()")
        write(folder, f"{home}/dialog/transcriptions/{dialog}.txt", f"{turns[0]} [006.2901-008.2357]: Excuse me.")
        places = [f"{home}/sentences/wav/{dialog}/{turn}.wav" for turn in [*turns, f"{dialog}_M002", f"{dialog}_MXX0"]]
        touch(folder, *places, f"{home}/dialog/wav/{dialog}.wav")
    return folder


def test_iemocap_is_read_from_its_emoevaluation_files(tmp_path):
    corpus = listed("iemocap", write_iemocap(tmp_path))
    assert not problems(corpus)
    assert len(corpus.recordings) == 20
    first = corpus.recordings[0]
    assert (first.id, first.emotion, first.transcript) == ("Ses01F_impro01_F000", "anger", "Excuse me.")
    # The dialogue is named after the woman; its man speaks in this turn.
    assert described(corpus)["Ses03F_impro01_M001"] == ("happiness", "Ses03M", "male")
    assert {r.session for r in corpus.recordings} == set("12345")
    assert corpus.facts["notes"] == [
        "5 turns on which raters did not agree are left out.",
        "5 turns without a label are left out.",
    ]


def test_iemocaps_sessions_are_folds(tmp_path):
    mapping = FOUR_CLASSES | {"sadness": None}
    corpus = listed("iemocap", write_iemocap(tmp_path), label_map=json.dumps(mapping))
    assert corpus.labels == ("anger", "happiness", "neutral")
    columns = columns_of(corpus)
    split = make_split(columns, "leave_one_session_out", fold=4)
    assert split.speaker_independent
    assert {i[:5] for i in split.test} == {"Ses05"}
    assert {i[:5] for i in split.dev} == {"Ses01"}
    assert {i[:5] for i in split.train} == {"Ses02", "Ses03", "Ses04"}
    with pytest.raises(ValueError, match="folds 0 to 4"):
        make_split(columns, "leave_one_session_out", fold=5)


def test_iemocap_without_labels_or_turns_says_what_it_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no label in Session\*/dialog/EmoEvaluation"):
        listed("iemocap", touch(tmp_path, "Session1/sentences/wav/a/Ses01F_impro01_F000.wav"))
    write(tmp_path, "Session1/dialog/EmoEvaluation/a.txt", "[1.0 - 2.0]\tSes01F_impro01_F000\tgrr\t[1, 1, 1]")
    assert "'grr' is none of ang" in next(iter(problems(listed("iemocap", tmp_path)).values()))


def test_sessions_that_are_not_named_cannot_be_folds():
    with pytest.raises(ValueError, match="Column 'session': 2 of 2 clips name no session"):
        make_split({"id": ["a", "b"], "session": [None, None]}, "leave_one_session_out")


# ----------------------------------------------------------------------------------------------------- MSP-Podcast
MSP_HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"


def write_msp(folder, *rows, name="labels_consensus.csv"):
    write(folder, f"Labels/{name}", MSP_HEADER, *rows)
    return touch(folder, *(f"Audios/{row.split(',')[0]}" for row in rows))


def test_msp_podcast_is_split_as_given_and_unknown_speakers_are_not_known(tmp_path):
    corpus = listed(
        "msp_podcast",
        write_msp(
            tmp_path,
            "MSP-PODCAST_0001_0008.wav,N,3.6,4.2,4.0,127,Male,Train",
            "MSP-PODCAST_0002_0033.wav,A,5.6,2.2,5.0,Unknown,Unknown,Train",
            "MSP-PODCAST_0003_0001.wav,U,5.0,5.2,4.0,12,Female,Development",
            "MSP-PODCAST_0004_0001.wav,C,5.0,5.2,4.0,13,Female,Test1",
            "MSP-PODCAST_0005_0001.wav,H,5.0,5.2,4.0,14,Female,Test2",
            "MSP-PODCAST_0006_0001.wav,X,4.0,4.0,4.0,15,Male,Train",
            "MSP-PODCAST_0007_0001.wav,,,,,,,Test3",
        ),
    )
    found = {r.id[-9:]: (r.emotion, r.speaker, r.gender, r.split) for r in corpus.recordings}
    assert found == {
        "0001_0008": ("neutral", "127", "male", "train"),
        "0002_0033": ("anger", None, None, "train"),
        "0003_0001": ("surprise", "12", "female", "dev"),
        "0004_0001": ("contempt", "13", "female", "test"),
        "0005_0001": ("happiness", "14", "female", None),
    }
    assert corpus.has_split
    assert corpus.recordings[0].path == "Audios/MSP-PODCAST_0001_0008.wav"
    assert corpus.facts["notes"] == ["2 clips without a label that raters agree on are left out."]


def test_msp_podcasts_older_spelling_is_read_and_strange_cells_are_problems(tmp_path):
    rows = ("a.wav,Q,1,1,1,1,Male,Train", "b.wav,N,1,1,1,1,Male,Tset", "c.wav,N,1,1,1,1,Male,Validation")
    corpus = listed("msp_podcast", write_msp(tmp_path, *rows, name="labels_concensus.csv"))
    assert "EmoClass is 'Q'" in problems(corpus)["Audios/a.wav"]
    assert "Split_Set is 'Tset'" in problems(corpus)["Audios/b.wav"]
    assert Counter(r.split for r in corpus.recordings if not r.problem) == {"dev": 1}


def test_msp_podcast_without_its_table_or_a_column_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no labels_consensus\.csv"):
        listed("msp_podcast", touch(tmp_path, "Audios/a.wav"))
    write(tmp_path, "Labels/labels_consensus.csv", "FileName,Emoclass,Split_Set", "a.wav,N,Train")
    with pytest.raises(ValueError, match=r"no column 'EmoClass'.*Did you mean 'Emoclass'"):
        listed("msp_podcast", tmp_path)
