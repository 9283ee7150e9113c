"""The model card: figures from results.json, harmless texts whatever the data say, metadata that the Hub takes."""

import copy
import hashlib
import json
import re
from html import escape

import pytest
import yaml
from fakes.fake_predictions import LABELS, fake_predictions, fake_regression
from markdown_it import MarkdownIt

from ser.data.corpora.joined import joint_facts
from ser.evaluation.format import format_interval, headline
from ser.evaluation.results import build_results
from ser.publish.card import card_data, check_card, make_card, pretrained_backbone, write_card
from ser.publish.licences import backbone_facts, hub_licence, model_licence
from ser.publish.markdown import safe, table

HOSTILE = "<script>alert(1)</script> [a](javascript:x) ![b](http://x/y.png) | `c` *d* _e_ # f\n# g ---"
# What the template itself makes: headings, lists, tables, code, a quotation.
ALLOWED_TAGS = {"h1", "h2", "p", "strong", "ul", "li", "pre", "code", "blockquote"}
ALLOWED_TAGS |= {"table", "thead", "tbody", "tr", "th", "td"}


@pytest.fixture(scope="module")
def made():
    table = fake_predictions(clips=120, speakers=6)
    context = {
        "protocol": {
            "name": "speaker_kfold",
            "speaker_independent": True,
            "num_folds": 3,
            "split_sha256": "ab12",
            "clips": {"train": 100, "test": 120},
            "what_is_wrong": ["test is uneven."],
        },
        "corpus": {
            "name": "ShEMO",
            "licence": "free of charge for academic purposes",
            "language": "fa",
            "citation": "Nezami et al. 2019.",
            "clips": 220,
            "speakers": 6,
            "hours": 0.2,
        },
        "label_source": "modified",
        "model": {"backbone": "facebook/hubert-base-ls960"},
        "robustness": {
            "conditions": {"noise 10 dB": {"uar": 0.4, "interval": [0.3, 0.5], "drop": 0.1, "drop_interval": [0, 0.2]}}
        },
        "versions": {"torch": "2.13.0"},
    }
    return build_results(table, LABELS, context)


@pytest.fixture
def results(made):
    return copy.deepcopy(made)


def metadata(text):
    return yaml.safe_load(text.split("---")[1])


def test_every_figure_is_the_one_of_the_results(results):
    text = str(make_card(results, "user/emo"))
    assert safe(headline(results)) in text
    for label in LABELS:
        of, bounds = results["test"]["per_class"][label], results["test"]["intervals"]["recall"][label]
        assert re.search(rf"\| {label} \|.*\| {re.escape(format_interval(of['recall'], bounds))} \|", text)
    for gender in ("female", "male"):
        of = results["gender"][gender]
        assert f"| {gender} | {format_interval(of['uar'], of['intervals']['uar'])} |" in text
    assert "| noise 10 dB | 0.400 [0.300, 0.500] | \N{MINUS SIGN}0.100 [\N{MINUS SIGN}0.200, 0.000] |" in text


def test_the_metadata_are_what_the_hub_searches_by(results):
    data = metadata(str(make_card(results, "user/emo")))
    assert data["pipeline_tag"] == "audio-classification"
    assert data["library_name"] == "transformers"
    assert data["language"] == "fa"
    assert data["license"] == "other"
    assert data["datasets"] == ["shemo"]
    assert data["base_model"] == "facebook/hubert-base-ls960"
    (index,) = data["model-index"]
    assert index["name"] == "emo"
    (result,) = index["results"]
    assert result["dataset"]["name"] == "ShEMO, " + headline(results).split(", ", 2)[2]
    assert [metric["value"] for metric in result["metrics"]] == [
        round(results["test"][key], 3) for key in ("uar", "accuracy", "macro_f1")
    ]


def test_the_card_says_how_to_use_it_in_five_lines(results):
    program = re.search(r"```python\n(.*?)```", str(make_card(results, "user/emo")), re.DOTALL)[1]
    assert len(program.splitlines()) == 5
    assert 'model="user/emo", trust_remote_code=True' in program
    compile(program, "card", "exec")


def test_the_card_of_a_stock_model_asks_for_no_remote_code(results):
    program = re.search(r"```python\n(.*?)```", str(make_card(results, "user/emo", is_ours=False)), re.DOTALL)[1]
    assert "trust_remote_code" not in program
    assert "timeline" not in program


def test_the_card_states_protocol_label_source_law_licences_citations_and_hash(results):
    text = str(make_card(results, "user/emo", "d1ge57", ["confusion_matrix.png", "other.png"]))
    for words in (
        "speaker-independent 3-fold",
        "Labels: modified.",
        "Note: test is uneven.",
        "Regulation (EU) 2024/1689",
        "Article 5(1)(f)",
        "workplace and education institutions",
        "ShEMO; licence: free of charge for academic purposes",
        "facebook/hubert-base-ls960; licence: apache-2.0",
        "The metadata say `other`",
        "Nezami et al. 2019.",
        "arXiv 2106.07447",
        "SHA-256 `d1ge57`",
        "](confusion_matrix.png)",
    ):
        assert words in text
    assert "other.png" not in text


@pytest.mark.parametrize("independent", [False, None])
def test_a_result_on_voices_that_may_be_known_is_called_speaker_dependent(results, independent):
    assert "speaker-dependent" not in str(make_card(results))
    results["protocol"]["speaker_independent"] = independent
    text = str(make_card(results))
    assert "> **This result is speaker-dependent" in text
    assert "speaker-dependent" in metadata(text)["tags"]
    check_card(text, results)


def test_a_card_made_by_hand_that_leaves_it_out_is_refused(results):
    text = str(make_card(results))
    results["protocol"]["speaker_independent"] = False
    with pytest.raises(ValueError, match="does not say speaker-dependent"):
        check_card(text, results)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("pipeline_tag: audio-classification", "pipeline_tag: emotion", "pipeline_tag is 'emotion'"),
        ("license: other", "license: free", "license is 'free'"),
        ("language: fa", "language: Persian", "language is 'Persian'"),
        ("language: fa", "language: [fa", "cannot be read"),
        ("- name: emo\n", "- title: emo\n", "cannot be read"),
        ("    - type: accuracy\n      value: 0.", "    - type: accuracy\n      value: 1.", "model-index says"),
        ("**UAR 0.", "**UAR 1.", "does not hold the headline"),
    ],
)
def test_metadata_that_the_hub_would_not_take_and_other_figures_are_refused(results, old, new, reason):
    text = str(make_card(results, "user/emo"))
    check_card(text, results)
    assert old in text
    with pytest.raises(ValueError, match=reason):
        check_card(text.replace(old, new), results)


def hostile(content, keep=("task", "format", "license")):
    """The same content with every text, and every key that comes from the data, replaced."""
    if isinstance(content, dict):
        return {key: value if key in keep else hostile(value) for key, value in content.items()}
    if isinstance(content, list):
        return [hostile(value) for value in content]
    return HOSTILE if isinstance(content, str) else content


def test_no_text_of_the_data_becomes_markup(results):
    spoiled = hostile(results)
    spoiled["labels"] = [f"{HOSTILE}{n}" for n in range(len(LABELS))]
    spoiled["test"]["per_class"] = dict(zip(spoiled["labels"], results["test"]["per_class"].values(), strict=True))
    spoiled["speakers"] = {"per_speaker": {HOSTILE: results["speakers"]["per_speaker"]["S01"]}, "worst": [HOSTILE]}
    spoiled["gender"] = {
        HOSTILE: results["gender"]["female"],
        "gap": {**results["gender"]["gap"], "between": [HOSTILE] * 2},
    }
    spoiled["versions"] = {HOSTILE: HOSTILE}
    spoiled["robustness"]["conditions"] = {HOSTILE: results["robustness"]["conditions"]["noise 10 dB"]}
    spoiled["protocol"]["clips"] = {HOSTILE: 1}
    head, body = str(make_card(spoiled, "user/emo")).split("\n---\n", 1)
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert set(re.findall(r"<(\w+)", page)) <= ALLOWED_TAGS
    assert escape(" ".join(HOSTILE.split()), quote=False) in page.replace("&quot;", '"')
    assert {len(re.findall(r"<t[hd]\b", row)) for row in page.split("<tr>")[1:]} == {2, 3, 4, 6}
    assert yaml.safe_load(head.removeprefix("---"))["model-index"][0]["results"][0]["dataset"]["config"] == HOSTILE


def test_a_cell_is_one_cell_whatever_it_holds():
    assert table(["a"], [[safe("x | y\nz")]]).splitlines()[-1] == "| x \\| y z |"
    assert safe("a & b\x00\u2028c") == "a &amp; b c"


def test_a_regression_names_its_dimensions_and_ccc():
    results = build_results(fake_regression(60, 6), ["arousal", "valence"], {"corpus": {"name": "x"}})
    text = str(make_card(results, "user/emo"))
    assert re.search(r"\| arousal \| 0\.\d\d\d \|", text)
    assert metadata(text)["metrics"] == ["ccc"]
    check_card(text, results)


def test_layers_that_were_cut_off_are_told(results):
    assert "without the last" not in str(make_card(results))
    cut = {**results, "model": {**results["model"], "layer_mix": 9, "layers_cut_off": 3}}
    assert "without the last 3 of its 12 layers" in str(make_card(cut))


def test_a_run_that_knows_little_still_gets_a_card():
    table = fake_predictions(60, 6).assign(speaker=None, gender=None)
    results = build_results(table, LABELS, {})
    text = str(make_card(results))
    assert "The corpus names neither" not in text
    assert "Not known: the corpus gives neither speakers nor genders" in text
    assert "speaker-dependent" in text
    check_card(text, results)


def test_dev_alone_gives_no_model_index():
    results = build_results(fake_predictions(60, 6, split="dev"), LABELS, {})
    assert card_data(results, "emo").eval_results is None
    assert "dev UAR" in str(make_card(results))


def test_a_card_is_written_beside_the_results_it_names(results, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(results))
    fake_predictions(60, 6).to_parquet(tmp_path / "predictions.parquet")
    (tmp_path / "confusion_matrix.png").write_bytes(b"")
    text = write_card(tmp_path).read_text()
    assert hashlib.sha256((tmp_path / "results.json").read_bytes()).hexdigest() in text
    assert "](confusion_matrix.png)" in text
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CC BY 4.0", "cc-by-4.0"),
        ("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"),
        ("Apache-2.0", "apache-2.0"),
        ("free of charge for academic purposes", None),
        ("other", None),
        (None, None),
    ],
)
def test_a_licence_that_is_written_out_gets_the_hubs_name(text, name):
    assert hub_licence(text) == name


def test_a_models_licence_is_the_corpuss_only_where_the_backbone_adds_nothing():
    assert model_licence("CC BY 4.0", None) == "cc-by-4.0"
    assert model_licence("CC BY 4.0", "facebook/hubert-base-ls960") == "cc-by-4.0"
    assert model_licence("CC BY 4.0", "microsoft/wavlm-base-plus") == "other"
    assert model_licence("CC BY 4.0", "somebody/speech") == "other"
    assert model_licence(None, None) == "other"
    assert backbone_facts("somebody/speech") == (None, None)


@pytest.mark.parametrize("name", ["hubert, from scratch", "hubert-base", "/home/me/hubert", None])
def test_only_a_repository_counts_as_base_model(name):
    assert pretrained_backbone({"model": {"backbone": name}}) is None


def test_a_folder_that_looks_like_a_repository_is_no_base_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = {"model": {"backbone": "runs/pretrained"}}
    assert pretrained_backbone(results) == "runs/pretrained"
    (tmp_path / "runs" / "pretrained").mkdir(parents=True)
    assert pretrained_backbone(results) is None


def test_a_card_of_several_corpora_cites_all_of_them_and_names_their_terms(made):
    terms = {
        "emodb": {"name": "EMO-DB", "licence": "CC BY 4.0", "language": "de", "citation": "Burkhardt 2005."},
        "tess": {"name": "TESS", "licence": "CC BY-NC-ND 4.0", "language": "en", "citation": "Dupuis 2020."},
    }
    results = copy.deepcopy(made)
    results["corpus"] |= joint_facts(terms)
    card = make_card(results)
    check_card(str(card), results)
    assert card.data.language == ["de", "en"]
    assert card.data.datasets == ["emo-db", "tess"]
    assert card.data.license == "other"
    text = str(card)
    assert "# Speech emotion recognition, German and English" in text
    for words in ("Burkhardt 2005", "Dupuis 2020", "EMO-DB: CC BY 4.0; TESS: CC BY-NC-ND 4.0"):
        assert words in text
    assert "the corpora are under licences of their own" in text
