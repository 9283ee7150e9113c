import errno
import io
import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from fakes.fake_corpora import prepared, tone, waves, write_emodb

import data_prep
from data_prep import SpeechCorpus, load_corpus
from ser.data.audio import corpus_facts, undecoded
from ser.data.data_arguments import DataArguments

ROOT = Path(data_prep.__file__).parent
COLUMNS = ["id", "corpus", "speaker", "gender", "emotion", "transcript", "ipa", "duration"]
COLUMNS += ["source_sampling_rate", "audio"]


# ------------------------------------------------------------------------------------------------------- the audio
def test_real_speech_at_16_khz_comes_out_bit_for_bit(emodb_dir, tmp_path):
    dataset = prepared(tmp_path, data_dir=emodb_dir, max_clips=20)
    for name, prepared_wave in waves(dataset).items():
        with wave.open(str(emodb_dir / "wav" / f"{name}.wav")) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        np.testing.assert_array_equal(prepared_wave * 32768, samples)


@pytest.mark.parametrize(
    ("suffix", "rate_hz", "channels", "subtype"),
    [
        ("wav", 44_100, 2, "PCM_24"),
        ("wav", 8_000, 1, "ULAW"),
        ("wav", 192_000, 8, "FLOAT"),
        ("flac", 22_050, 1, "PCM_16"),
        ("ogg", 48_000, 2, "VORBIS"),
        ("ogg", 48_000, 1, "OPUS"),
        ("mp3", 44_100, 2, "MPEG_LAYER_III"),
    ],
)
def test_any_format_rate_and_number_of_channels_becomes_the_same_16_khz_tone(
    suffix, rate_hz, channels, subtype, tmp_path
):
    for label in "ab":
        (tmp_path / "source" / label).mkdir(parents=True)
        sound = tone(1.0, rate_hz, channels=channels)
        soundfile.write(tmp_path / "source" / label / f"x.{suffix}", sound, rate_hz, subtype=subtype)
    dataset = prepared(tmp_path, "folder", tmp_path / "source")
    assert set(dataset["source_sampling_rate"]) == {rate_hz}
    heard = waves(dataset)["a/x"]
    assert len(heard) == pytest.approx(16_000, abs=1200)
    middle = heard[4000:12_000]
    assert np.abs(np.fft.rfft(middle)).argmax() * 2 == 440
    assert middle.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_the_columns_are_the_same_for_every_corpus(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for label in "ab":
        soundfile.write(tmp_path / label / "x.wav", tone(), 16_000)
    write_emodb(tmp_path / "emodb", "03a01Wa", "08a01La")
    (tmp_path / "clips.csv").write_text("path,label\na/x.wav,a\nb/x.wav,b\n")
    for dataset in (
        prepared(tmp_path, data_dir=tmp_path / "emodb"),
        prepared(tmp_path, "manifest", manifest=str(tmp_path / "clips.csv")),
    ):
        assert dataset.column_names == COLUMNS
        assert dataset.features["audio"] == datasets.Audio(sampling_rate=16_000)
        assert isinstance(dataset.features["emotion"], datasets.ClassLabel)


def test_a_row_says_who_speaks_what_and_how_long(tmp_path):
    dataset = prepared(tmp_path, data_dir=write_emodb(tmp_path / "source", "03a01Wa", "08b10La"))
    row = undecoded(dataset)[1]
    assert (row["id"], row["speaker"], row["gender"]) == ("08b10La", "08", "female")
    assert dataset.features["emotion"].int2str(row["emotion"]) == "boredom"
    assert (row["duration"], row["source_sampling_rate"], row["audio"]["path"]) == (0.2, 16_000, "08b10La.wav")
    assert row["transcript"].startswith("Die wird")


def test_a_manifest_brings_its_split_and_its_targets(tmp_path):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", tone(), 16_000)
    (tmp_path / "clips.csv").write_text("path,valence,split\na.wav,0.25,train\nb.wav,-1,test\n")
    dataset = prepared(tmp_path, "manifest", manifest=str(tmp_path / "clips.csv"), target_columns="valence")
    assert dataset["valence"] == [0.25, -1.0]
    assert dataset["split"] == ["train", "test"]
    assert "emotion" not in dataset.column_names


def test_the_facts_have_the_same_keys_for_every_corpus(tmp_path):
    keys = ["name", "label_source", "licence", "language", "citation", "homepage"]
    keys += ["target_columns", "differences", "notes", "skipped"]
    for label in "ab":
        write_emodb(tmp_path / "folders" / label, "03a01Wa")
    for dataset in (
        prepared(tmp_path, data_dir=write_emodb(tmp_path / "emodb", "03a01Wa")),
        prepared(tmp_path, "folder", tmp_path / "folders"),
    ):
        assert list(corpus_facts(dataset)) == keys
        assert corpus_facts(dataset.select([0])) == corpus_facts(dataset)


# ------------------------------------------------------------------------------------------------------- bad input
BAD = {
    "03a01Fa.wav": (b"", "is empty"),
    "03a01Fb.wav": (b"this is a text, not a recording\n" * 40, "not audio"),
    "03a01Fd.wav": ("silence", "every sample is zero"),
    "03a01Fe.wav": ("short", "too short: 399 samples"),
    "03a01Ff.wav": ("nan", "NaN"),
    "03a01Fg.wav": ("cut", "cut off"),
    "03a01Xa.wav": ("good", "outside the grammar"),
}


@pytest.fixture
def bad_folder(tmp_path):
    """Two good clips among one of each kind of bad file."""
    folder = write_emodb(tmp_path / "bad", "03a01Wa", "08a01La")
    for name, (content, _) in BAD.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else bad_wav(content))
    return folder


def bad_wav(kind):
    sound = {"silence": tone() * 0, "short": tone()[:399], "nan": tone().astype(np.float32)}.get(kind, tone())
    if kind == "nan":
        sound[100] = np.nan
    file = io.BytesIO()
    soundfile.write(file, sound, 16_000, format="WAV", subtype="FLOAT" if kind == "nan" else "PCM_16")
    return file.getvalue()[: -1000 if kind == "cut" else None]


@pytest.mark.parametrize("num_proc", [1, 2])
def test_all_files_that_cannot_be_used_are_listed_at_once_each_with_its_reason(num_proc, bad_folder, tmp_path):
    with pytest.raises(ValueError, match="7 of 9 files cannot be used") as caught:
        prepared(tmp_path, data_dir=bad_folder, num_proc=num_proc)
    lines = str(caught.value).splitlines()
    for name, (_, reason) in BAD.items():
        assert [line for line in lines if line.startswith(f"  {name}: ") and reason in line], name
    assert "--skip_unreadable true" in lines[-1]


def test_a_refused_corpus_leaves_nothing_in_the_cache(bad_folder, tmp_path):
    with pytest.raises(ValueError, match="cannot be used"):
        prepared(tmp_path, data_dir=bad_folder)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_unreadable_files_are_left_out_on_request_and_the_facts_say_so(bad_folder, tmp_path):
    dataset = prepared(tmp_path, data_dir=bad_folder, skip_unreadable=True)
    assert dataset["id"] == ["03a01Wa", "08a01La"]
    skipped = {clip["path"]: clip["reason"] for clip in corpus_facts(dataset)["skipped"]}
    assert set(skipped) == set(BAD)
    assert "too short" in skipped["03a01Fe.wav"]


def test_a_corpus_of_which_nothing_is_left_is_an_error_even_so(tmp_path):
    folder = write_emodb(tmp_path / "source", "03a01Wa")
    (folder / "03a01Wa.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="No clip is left"):
        prepared(tmp_path, data_dir=folder, skip_unreadable=True)


def test_a_file_of_the_manifest_that_is_not_there_is_listed(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    (tmp_path / "clips.csv").write_text("path,label\na.wav,x\nnone.wav,y\n")
    with pytest.raises(ValueError, match=r"none\.wav: there is no such file"):
        prepared(tmp_path, "manifest", manifest=str(tmp_path / "clips.csv"))


def test_of_many_missing_files_three_are_named_with_the_folder_that_was_searched(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    (tmp_path / "clips.csv").write_text("path,label\na.wav,x\n" + "".join(f"n{n:03}.wav,y\n" for n in range(339)))
    with pytest.raises(ValueError, match="339 of 340 files cannot be used") as caught:
        prepared(tmp_path, "manifest", manifest=str(tmp_path / "clips.csv"))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines[1:4]] == ["  n000.wav", "  n001.wav", "  n002.wav"]
    assert lines[4] == "  and 336 more: there is no such file"
    assert str(tmp_path) in lines[5]
    assert len(lines) == 7


# ------------------------------------------------------------------------------------------------------- the cache
def test_the_second_time_no_file_is_read(tmp_path, monkeypatch):
    folder = write_emodb(tmp_path / "source", "03a01Wa", "08a01La")
    first = prepared(tmp_path, data_dir=folder)
    monkeypatch.setattr(data_prep, "row_of", lambda *_: pytest.fail("a file was read again"))
    again = prepared(tmp_path, data_dir=folder)
    assert again["id"] == first["id"]
    assert corpus_facts(again) == corpus_facts(first)


def test_a_prepared_corpus_in_a_cache_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    folder = write_emodb(tmp_path / "source", "03a01Wa", "08a01La")
    first = prepared(tmp_path, data_dir=folder)

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(datasets.builder, "FileLock", refuse)
    again = prepared(tmp_path, data_dir=folder)
    assert (again["id"], again._fingerprint) == (first["id"], first._fingerprint)
    assert waves(again).keys() == waves(first).keys()
    with pytest.raises(OSError, match=r"--cache_dir: .*Read-only file system\. Prepare the corpus in a folder"):
        prepared(tmp_path / "other", data_dir=folder)


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_full_disk_is_told_in_one_line_with_the_folder(num_proc, tmp_path, monkeypatch):
    folder = write_emodb(tmp_path / "source", *(f"{n:02}a01Wa" for n in range(20)), "08a01La")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(datasets.arrow_writer.ArrowWriter, "write_table", full)
    with pytest.raises(OSError, match="--cache_dir: no space is left for") as caught:
        prepared(tmp_path, data_dir=folder, num_proc=num_proc)
    assert str(tmp_path / "cache") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_changed_file_and_another_label_map_are_prepared_anew(tmp_path):
    folder = write_emodb(tmp_path / "source", "03a01Wa", "08a01La")
    before = waves(prepared(tmp_path, data_dir=folder))
    soundfile.write(folder / "03a01Wa.wav", tone(0.3), 16_000)
    after = waves(prepared(tmp_path, data_dir=folder))
    assert (len(before["03a01Wa"]), len(after["03a01Wa"])) == (3200, 4800)
    assert prepared(tmp_path, data_dir=folder, label_map='{"boredom": null}')["id"] == ["03a01Wa"]


def test_any_number_of_processes_gives_the_same_rows_in_the_same_order(tmp_path):
    names = [f"{speaker}a0{text}{letter}a" for speaker in ("03", "08", "10") for text in "1257" for letter in "WLT"]
    folder = write_emodb(tmp_path / "source", *names)
    one = prepared(tmp_path / "1", data_dir=folder)
    three = prepared(tmp_path / "3", data_dir=folder, num_proc=3)
    assert one["id"] == three["id"] == sorted(names)
    assert [row["audio"]["bytes"] for row in undecoded(one)] == [row["audio"]["bytes"] for row in undecoded(three)]


def test_what_an_unfinished_run_left_does_not_enter_the_cache(tmp_path):
    folder = write_emodb(tmp_path / "source", "03a01Wa", "08a01La")
    args = DataArguments(corpus="emodb", data_dir=str(folder), cache_dir=str(tmp_path / "cache"), num_proc=1)
    finished = Path(SpeechCorpus(args).cache_dir)
    unfinished = finished.with_name(f"{finished.name}.incomplete")
    unfinished.mkdir(parents=True)
    (unfinished / "ser_emodb-train-00001-00000-of-NNNNN.arrow").write_bytes(b"half a table")
    assert len(load_corpus(args)) == 2
    assert not unfinished.exists()
    assert [path.name for path in finished.glob("*.arrow")] == ["ser_emodb-train.arrow"]


@pytest.mark.heavy
def test_a_run_killed_midway_leaves_nothing_that_the_next_one_takes_for_whole(tmp_path):
    names = [f"{n:02d}a{text:02d}{letter}a" for n in range(20) for text in range(10) for letter in "WLT"]
    folder = write_emodb(tmp_path / "source", *names)
    config = tmp_path / "run.yaml"
    config.write_text(f"corpus: emodb\ndata_dir: {folder}\ncache_dir: {tmp_path / 'cache'}\nnum_proc: 2\n")
    command = [sys.executable, str(ROOT / "data_prep.py"), str(config)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "cache").rglob("*.incomplete/*.arrow")) and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        process.wait()
        assert list((tmp_path / "cache").rglob("*.incomplete/*.arrow")), "it was killed too late or too early"
        assert prepared(tmp_path, data_dir=folder)["id"] == sorted(names)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert not list((tmp_path / "cache").rglob("*.incomplete"))


def test_a_corpus_is_not_streamed_and_what_is_prepared_stays(tmp_path):
    folder = write_emodb(tmp_path / "source", "03a01Wa", "08a01La")
    args = DataArguments(corpus="emodb", data_dir=str(folder), cache_dir=str(tmp_path / "cache"), num_proc=1)
    load_corpus(args)
    with pytest.raises(NotImplementedError, match="to_iterable_dataset"):
        SpeechCorpus(args).as_streaming_dataset(split="train")
    assert list(Path(SpeechCorpus(args).cache_dir).glob("*.arrow"))


# ------------------------------------------------------------------------------------------------ the command line
def test_the_command_prints_what_it_prepared_and_draws_it(tmp_path, capsys):
    folder = write_emodb(tmp_path / "source", "03a01Wa", "08a01La", "08a02La")
    config = tmp_path / "run.yaml"
    config.write_text(f"corpus: emodb\ndata_dir: {folder}\ncache_dir: {tmp_path}/cache\nlearning_rate: 1e-3\n")
    data_prep.main([str(config), "--output_dir", str(tmp_path / "out"), "--num_proc", "1", "--data_page", "false"])
    printed = capsys.readouterr().out
    for words in ("clips     3", "speakers  2 (1 female, 1 male)", "boredom             2       0.4    0.20"):
        assert words in printed
    for name in ("class_distribution.png", "duration_histogram.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "words"),
    [("corpus: emodb", "--data_dir"), ("corpus: emodb\ndata_dri: x", "run.yaml: unknown key 'data_dri'")],
)
def test_the_command_answers_a_mistake_with_one_line(text, words, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(text)
    assert data_prep.main([str(tmp_path / "run.yaml")]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_neither_torch_nor_transformers_is_imported_for_a_corpus_in_the_cache(tmp_path):
    folder = write_emodb(tmp_path / "source", "03a01Wa", "08a01La")
    prepared(tmp_path, data_dir=folder)
    code = (
        "import sys, data_prep\n"
        "from ser.data.data_arguments import DataArguments\n"
        "data_prep.load_corpus(DataArguments(corpus='emodb', data_dir=sys.argv[1], cache_dir=sys.argv[2]))\n"
        "print({'torch', 'transformers', 'torchcodec', 'matplotlib'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
