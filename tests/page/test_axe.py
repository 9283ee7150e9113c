"""What axe-core says of the pages that a run leaves behind: the report, and the page about its data."""

import pytest
from fakes.fake_corpora import prepared
from fakes.made_run import make_run
from fakes.tones import write_tones

from ser.data.data_arguments import DataArguments
from ser.evaluation.report import write_report
from ser.exploration.data_page import write_data_page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a run of random weights."""
    run = make_run(tmp_path_factory.mktemp("made"))
    write_report(run.folder, audio=run.audio.__getitem__)
    return run.folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious_in_a_report(browser, axe, report, scheme, width):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(report.as_uri())
    found = axe(page)
    context.close()
    assert found == []


def test_axe_finds_nothing_serious_in_a_page_about_data(browser, axe, tmp_path):
    manifest = write_tones(tmp_path / "tones", clips_per_class=1)
    dataset = prepared(tmp_path, "manifest", manifest=str(manifest))
    path = write_data_page(dataset, tmp_path, DataArguments(cache_dir=str(tmp_path), num_proc=1))
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": 390, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.goto(path.as_uri())
        found = axe(page)
        context.close()
        assert found == [], scheme
