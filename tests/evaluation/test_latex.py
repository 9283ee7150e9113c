"""What a paper takes from a run: tables in LaTeX, the paragraph on the method, BibTeX, figures as vectors."""

import json
import re
import shutil
import subprocess

import pytest
from fakes.fake_run import LABELS, context, predictions, write_run
from typer.testing import CliRunner

from ser.cli import app
from ser.evaluation.bibliography import bibtex_of, references_of
from ser.evaluation.format import format_interval, setting_of
from ser.evaluation.latex import escape, latex_table
from ser.evaluation.method import kept_layers, method_sentences

ROWS = [("run", "UAR"), ("a_b & 5 %", "0.623 [0.581, 0.664]"), ("#1 {x} \\y ~ ^", "\N{MINUS SIGN}0.010, p < 0.001")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("paper") / "run_1", predictions(), LABELS, context())


def has_latex() -> bool:
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode == 0


def ser(*arguments):
    answer = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert answer.exit_code == 0, answer.stderr
    return answer.stdout


def test_every_special_character_is_escaped():
    assert escape("a_b & 5 % $1 #2 {x}") == r"a\_b \& 5 \% \$1 \#2 \{x\}"
    assert escape("\\cmd ~ ^ <\n>") == r"\textbackslash{}cmd \textasciitilde{} \textasciicircum{} $<$ $>$"
    assert escape("\N{MINUS SIGN}0.1\N{NO-BREAK SPACE}%") == r"$-$0.1~\%"


def test_a_table_is_booktabs_with_as_many_columns_as_cells():
    table = latex_table(ROWS, "Runs of a_b.", "tab:a_b")
    assert re.findall(r"\\(\w+rule)", table) == ["toprule", "midrule", "bottomrule"]
    assert r"\begin{tabular}{lr}" in table
    assert r"\label{tab:a-b}" in table
    assert r"a\_b \& 5 \% & 0.623 [0.581, 0.664] \\" in table


@pytest.mark.parametrize("folders", [("compare", "{run}", "{run}"), ("runs", "{run}/.."), ("report", "{run}")])
def test_each_command_prints_a_table(folders, run):
    said = ser(*(word.format(run=run) for word in folders), "--latex")
    assert said.count(r"\begin{tabular}") == said.count(r"\end{tabular}") >= 1
    body = "".join(line for line in said.splitlines(keepends=True) if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[_#]", re.sub(r"\\(label|cite)\{[^}]*\}", "", body))


def test_the_table_of_a_run_holds_the_scores_of_its_report(run):
    results = json.loads((run / "results.json").read_text())
    said = ser("report", run, "--latex")
    assert format_interval(results["test"]["uar"], results["test"]["intervals"]["uar"]) in said
    for sentence in method_sentences(results):
        assert escape(sentence) in said
    for entry in references_of(results):
        assert f"\\cite{{{entry.key}}}" in said


def test_the_method_names_protocol_seeds_hash_and_versions():
    protocol = {"name": "speaker_kfold", "num_folds": 5, "folds": [0, 1, 2, 3, 4], "seeds": [13, 21]}
    results = {
        "task": "classification",
        "labels": ["anger", "neutral"],
        "corpus": {"name": "ShEMO", "clips": 3000, "speakers": 87, "hours": 3.4},
        "model": {"backbone": "facebook/hubert-base-ls960", "pooling": "mean"},
        "config": {"train_mode": "probe"},
        "protocol": {**protocol, "speaker_independent": True, "split_sha256": "abc"},
        "versions": {"torch": "2.13.0"},
    }
    text = " ".join(method_sentences(results))
    for words in ("3,000 clips of 87 speakers", "facebook/hubert-base-ls960) was frozen", "5-fold (seeds 13, 21)",
                  "no speaker of a test set was", "split is abc", "torch 2.13.0"):  # fmt: skip
        assert words in text
    assert method_sentences({}) == []


def test_corpus_encoder_and_software_are_cited_and_an_unknown_corpus_by_its_own_words():
    known = {"corpus": {"name": "ShEMO"}, "model": {"backbone": "microsoft/wavlm-base-plus"}}
    assert [entry.key for entry in references_of(known)] == ["mohamadnezami2019shemo", "chen2021wavlm", "ser"]
    other = {"corpus": {"name": "My clips", "citation": "A. B {C}: 5 % of_it"}}
    assert r"note  = {A. B (C): 5 \% of\_it}" in bibtex_of(other)
    joined = {"corpus": {"name": "both", "corpora": {"a": {"name": "EMO-DB"}, "b": {"name": "RAVDESS"}}}}
    assert [entry.key for entry in references_of(joined)] == ["burkhardt2005emodb", "livingstone2018ravdess", "ser"]
    for entry in references_of({**known, **joined}):
        assert entry.text.count("{") == entry.text.count("}")


def test_figures_are_written_as_vectors_with_text(run, tmp_path):
    ser("report", run, "--figures", tmp_path / "figures", "--latex")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"confusion_matrix.svg", "confusion_matrix.pdf"} <= names
    assert "<text" in (tmp_path / "figures" / "confusion_matrix.svg").read_text()
    assert (tmp_path / "figures" / "confusion_matrix.pdf").read_bytes().startswith(b"%PDF")


def test_labels_are_named_only_where_a_corpus_has_a_choice():
    protocol = {"protocol": {"name": "given"}}
    assert "labels" not in setting_of({**protocol, "label_source": "filename", "corpus": {"name": "EMO-DB"}})
    assert "labels: filename" in setting_of({**protocol, "label_source": "filename", "corpus": {"name": "ShEMO"}})
    assert "labels: modified" in setting_of({**protocol, "label_source": "modified"})


@pytest.mark.heavy
@pytest.mark.skipif(not has_latex(), reason="no LaTeX with booktabs is installed")
def test_tables_compile(run, tmp_path):
    text = ser("report", run, "--latex") + "\n\n" + latex_table(ROWS, "Runs & more.", "tab:runs")
    document = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{text}\n\\end{{document}}"
    (tmp_path / "paper.tex").write_text(document)
    found = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True
    )
    assert found.returncode == 0, found.stdout.decode(errors="replace")[-2000:]


def test_folds_that_chose_layers_0_and_1_say_how_much_of_the_encoder_was_cut_off():
    assert kept_layers({"layers_cut_off": 3}) == ", without the last 3 of its 4 layers"
    assert kept_layers({"layers_cut_off": 2, "layer_mix": "2"}) == ", without the last 2 of its 4 layers"
