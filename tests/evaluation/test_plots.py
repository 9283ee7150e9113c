import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ser.evaluation import plots, theme
from ser.evaluation.figures import Run, run_plots
from ser.evaluation.fold_plots import dev_curve, mean_curve
from ser.evaluation.text_alternatives import seen_in_confusions, seen_in_curves, seen_in_speakers


def texts(figure) -> list[str]:
    """Every text that the SVG of a figure shows."""
    root = ElementTree.fromstring(theme.to_svg(figure, "plot", "a plot"))
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_cell_of_the_confusion_matrix_shows_its_share_of_the_row_and_its_clips():
    shown = texts(plots.confusion_matrix([[3, 1], [0, 1200]], ["anger", "fear"]))
    assert {"75\N{NO-BREAK SPACE}%", "3", "25\N{NO-BREAK SPACE}%", "1", "1,200", "anger", "fear"} <= set(shown)


def test_a_class_without_a_clip_leaves_its_row_empty():
    shown = texts(plots.confusion_matrix([[0, 0], [1, 1]], ["anger", "fear"]))
    assert shown.count("0\N{NO-BREAK SPACE}%") == 2


def test_the_best_epoch_is_the_one_with_the_best_dev_score():
    log = [{"eval_uar": uar, "epoch": epoch} for epoch, uar in enumerate((0.2, 0.51, 0.4))]
    assert "best 0.510" in texts(plots.training_curves(log))


def test_a_log_with_a_loss_that_was_not_finite_is_drawn():
    log = [
        {"loss": None, "eval_uar": None, "epoch": 1.0},
        {"loss": 0.4, "epoch": 2.0},
        {"train_runtime": 3.0, "epoch": 2.0},
    ]
    assert "Loss" in texts(plots.training_curves(log))


def test_a_log_without_a_curve_is_refused():
    with pytest.raises(ValueError, match="eval_uar"):
        plots.training_curves([{"train_runtime": 3.0}])


def test_lengths_that_are_all_the_same_are_drawn_with_an_axis():
    shown = texts(plots.duration_distribution([300.0] * 5))
    assert {"median 300.0 s", "200"} <= set(shown)


def test_a_name_is_no_formula_and_no_markup():
    shown = texts(plots.class_distribution({"$x^{2$": 3, "<b>&amp;": 4}))
    assert {"$x^{2$", "<b>&amp;"} <= set(shown)


def test_speakers_without_gender_or_interval_are_drawn():
    rows = [{"speaker": "a", "gender": None, "value": 0.5, "interval": None}, {"speaker": "b", "value": 0.7}]
    assert "gender not known" in texts(plots.speakers(rows))


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    theme.to_svg(plots.class_distribution({"a": 1}), "plot", "a plot")
    assert dict(matplotlib.rcParams) == before


def test_colours_of_an_svg_are_variables_of_the_page():
    svg = theme.to_svg(plots.confusion_matrix([[3, 1], [0, 2]], ["a", "b"]), "plot", "a plot")
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) - {"none"}
    assert colours
    assert all(colour.startswith("var(--") for colour in colours)


def test_a_style_sheet_of_the_plot_does_not_reach_the_page():
    assert "<style" not in theme.to_svg(plots.class_distribution({"a": 1}), "plot", "a plot")


def test_ids_of_two_plots_in_one_page_differ_and_links_follow_them():
    figure = plots.speakers([{"speaker": "a", "gender": "male", "value": 0.5}], 0.6)
    first, second = (theme.to_svg(figure, name, "a plot") for name in ("one", "two"))
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in (first, second)]
    assert not ids[0] & ids[1]
    for svg, known in ((first, ids[0]), (second, ids[1])):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= known


def test_a_png_is_opaque_and_a_thousand_pixels_wide(tmp_path):
    path = theme.write_png(plots.class_distribution({"a": 1, "b": 2}), tmp_path / "classes.png")
    picture = Image.open(path)
    assert picture.width == 1000
    assert np.asarray(picture.convert("RGBA"))[..., 3].min() == 255
    assert [file.name for file in tmp_path.iterdir()] == ["classes.png"]


def layers_of(*chosen: int) -> list[dict]:
    names = ("0", "1", "2", "all")
    return [
        {"layer": name, "uar": 0.5 + 0.1 * place, "interval": [0.4, 0.9], "chosen": times}
        for place, (name, times) in enumerate(zip(names, chosen, strict=True))
    ]


def test_the_layer_that_was_chosen_is_marked_and_that_it_was_inside_train_is_said():
    plot = run_plots(Run({"layers": layers_of(0, 1, 0, 0)}, pd.DataFrame(), [], {}))["layers"]
    assert texts(plot.figure).count("chosen") == 1
    assert {"0", "1", "2", "all", "UAR"} <= set(texts(plot.figure))
    for words in ("cross-validation over the speakers of train", "dev and test are not used", "by log loss"):
        assert words in plot.caption


def test_folds_that_chose_different_layers_are_counted():
    plot = run_plots(Run({"layers": layers_of(0, 0, 4, 1)}, pd.DataFrame(), [], {}))["layers"]
    assert {"4 of 5", "1 of 5"} <= set(texts(plot.figure))
    assert "The 5 folds chose the diamonds" in plot.caption


def test_layers_of_dimensions_have_no_interval_and_say_ccc():
    layers = [{"layer": name, "ccc": 0.5, "interval": None, "chosen": int(name == "1")} for name in ("0", "1")]
    plot = run_plots(Run({"layers": layers}, pd.DataFrame(), [], {}))["layers"]
    assert "CCC" in texts(plot.figure)
    assert "by CCC" in plot.caption
    assert "intervals" not in plot.caption


def test_curves_of_folds_are_averaged_where_all_of_them_are():
    short, long = (np.array([(epoch, value) for epoch in range(1, n)]) for n, value in ((3, 0.2), (5, 0.4)))
    assert mean_curve([short, long]).tolist() == [[1, pytest.approx(0.3)], [2, pytest.approx(0.3)]]
    log = [{"epoch": 1.0, "loss": 2.0}, {"epoch": 1.0, "eval_uar": 0.4}, {"epoch": 2.0, "eval_uar": 0.5}]
    assert dev_curve(log).tolist() == [[1, 0.4], [2, 0.5]]
    assert len(dev_curve([{"epoch": 1.0, "loss": 2.0}])) == 0


def test_who_cannot_see_a_plot_reads_what_is_to_be_seen():
    told = seen_in_confusions([[8, 2], [1, 9]], ["anger", "fear"])
    assert "anger 80" in told
    assert "anger, taken for fear in 20" in told
    assert "best at epoch 2 with 0.500" in seen_in_curves([(1, 0.3), (2, 0.5), (3, 0.4)], "UAR")
    rows = [{"speaker": "a", "value": 0.5}, {"speaker": "b", "value": 0.2}]
    assert seen_in_speakers(rows, "UAR") == "2 speakers, from 0.200 (b) to 0.500 (a) in UAR."
