from dataclasses import fields

import pytest

from ser.data.data_arguments import DataArguments, read_data_arguments
from ser.yaml_files import read_yaml


def read(tmp_path, text, *flags):
    config = tmp_path / "run.yaml"
    config.write_text(text, encoding="utf-8")
    return read_data_arguments([str(config), *flags])


def test_a_flag_wins_over_the_file_and_keys_of_model_and_training_are_left_alone(tmp_path):
    text = "corpus: emodb\nfold: 3\nlearning_rate: 3e-5\nbackbone_config: {hidden_size: 8}\noutput_dir: out\n"
    args, output_dir = read(tmp_path, text, "--fold", "all", "--skip_unreadable", "--num_proc=2")
    assert (args.corpus, args.fold, args.skip_unreadable, args.num_proc, output_dir) == ("emodb", "all", True, 2, "out")


def test_mappings_and_lists_stand_in_the_file_as_themselves(tmp_path):
    args, _ = read(tmp_path, "corpus: manifest\nlabel_map: {joy: happiness, other: null}\ntarget_columns: [a, b]\n")
    assert args.parsed_label_map() == {"joy": "happiness", "other": None}
    assert args.parsed_target_columns() == ["a", "b"]
    assert DataArguments(corpus="manifest", target_columns="a, b").parsed_target_columns() == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data_dri: x", "unknown key 'data_dri'. Did you mean 'data_dir'"),
        ("corpus: emobd", "corpus: --corpus: 'emobd' is not one of .* Did you mean 'emodb'"),
        ("num_folds: five", "num_folds: 'five' is not a whole number"),
        ("num_folds: 1", "num_folds: --num_folds: 1 is too small"),
        ("skip_unreadable: maybe", "skip_unreadable: 'maybe' is neither true nor false"),
        ("max_train_seconds: long", "max_train_seconds: 'long' is not a number"),
        ("corpus: emodb\ncorpus: shemo", "key 'corpus' is given twice"),
        ("- emodb", "expected lines of the form"),
        ("corpus: [", "is not YAML"),
    ],
)
def test_an_error_in_the_file_names_the_file_and_the_key(text, words, tmp_path):
    with pytest.raises(ValueError, match=f"run.yaml: {words}"):
        read(tmp_path, text)


def test_an_error_in_a_flag_names_the_flag(tmp_path):
    with pytest.raises(ValueError, match="--num_proc: 'two' is not a whole number"):
        read(tmp_path, "corpus: emodb", "--num_proc", "two")
    with pytest.raises(ValueError, match=r"--data_dri: no such flag.*Did you mean 'data_dir'"):
        read(tmp_path, "corpus: emodb", "--data_dri", "x")


def test_flags_that_another_corpus_needs_are_refused():
    with pytest.raises(ValueError, match=r"--manifest: 'x\.csv' needs --corpus manifest, not emodb"):
        DataArguments(corpus="emodb", manifest="x.csv")


def test_no_key_of_model_or_training_is_taken_for_a_misspelt_one(tmp_path):
    from ser.training.arguments import ModelArguments, SERTrainingArguments

    for kind in (ModelArguments, SERTrainingArguments):
        for entry in fields(kind):
            read(tmp_path, f"{entry.name}: 1")


def test_a_yaml_file_that_attacks_or_is_no_text_is_refused_by_name(tmp_path):
    path = tmp_path / "run.yaml"
    laughs = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
    for text, words in (
        (f"a0: &a0 [lol]\n{laughs}\n", "anchors expand"),
        ("a: &a [*a]\n", "anchors expand"),
        ("a: " + "[" * 20_000, "nested too deeply"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"run.yaml: .*{words}"):
            read_yaml(path)
    path.write_bytes("corpus: é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"run\.yaml: is not UTF-8"):
        read_yaml(path)
