import io
import json

import numpy as np
import pytest
import soundfile
from fakes.fake_run import LABELS, context, predictions, training_log, write_run

from ser.evaluation import format as words
from ser.evaluation.report import write_report

pytestmark = pytest.mark.browser
NASTY = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def tone(_):
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(8000) / 10), 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A report with every section, every text of which tries to be markup."""
    labels = [NASTY, "عصبانیت", "a label that is much longer than its place beside an axis", *LABELS[3:]]
    sections = context(labels)
    sections["corpus"]["name"] = sections["label_source"] = sections["baseline"]["name"] = NASTY
    table = predictions(labels, mark=NASTY)
    return write_report(write_run(tmp_path_factory.mktemp("run"), table, labels, sections, training_log()), tone)


@pytest.fixture
def open_page(browser, path):
    """Opens the report in a window of its own; what it asked for and complained of is in `asked` and `said`."""
    contexts = []

    def open_(width=1280, scheme="light"):
        window = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(window)
        page = window.new_page()
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri(), wait_until="load")
        return page

    yield open_
    for window in contexts:
        window.close()


def test_the_page_makes_no_request_and_no_complaint_and_runs_no_text_of_the_data(open_page, path):
    page = open_page()
    page.wait_for_timeout(200)
    assert page.asked == [path.as_uri()]
    assert page.said == []


def test_the_heading_is_the_headline_of_the_results(open_page, path):
    results = json.loads((path.parent / "results.json").read_text(encoding="utf-8"))
    page = open_page()
    assert page.locator("h1").text_content() == words.headline(results)
    assert page.title() == words.headline(results)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_sticks_out_at_the_side(open_page, width):
    page = open_page(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = """() => [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll')
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(outside) == []


def test_letters_of_plots_can_be_read_on_a_phone(open_page):
    heights = """() => [...document.querySelectorAll('figure svg text')].map(e =>
        parseFloat(getComputedStyle(e).fontSize) * e.ownerSVGElement.getScreenCTM().a)"""
    assert min(open_page(360).evaluate(heights)) >= 7


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_plots_stand_out_from_the_page_in_either_scheme(open_page, scheme):
    page = open_page(scheme=scheme)
    colours = page.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
        getComputedStyle(document.querySelector('.ci')).color,
        ...[...document.querySelectorAll('#speakers svg text')].map(e => getComputedStyle(e).fill)]"""
    )
    background, *letters = [luminance(colour) for colour in colours]
    assert (background > 0.5) == (scheme == "light")
    for letter in letters:
        assert (max(letter, background) + 0.05) / (min(letter, background) + 0.05) >= 4.5


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG 2 defines it."""
    share = np.array([float(value) for value in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_a_clip_plays_under_the_policy_of_the_page(open_page):
    page = open_page()
    duration = page.evaluate(
        """() => new Promise((done, fail) => { const clip = document.querySelector('audio');
        clip.onloadedmetadata = () => done(clip.duration);
        clip.onerror = () => fail(clip.error.message); clip.load(); })"""
    )
    assert duration == pytest.approx(0.5)
    assert page.said == []


def test_print_is_dark_on_white_and_shows_what_is_folded_away(open_page):
    page = open_page(scheme="dark")
    page.emulate_media(media="print")
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) == pytest.approx(1)
    assert not page.locator("audio").first.is_visible()
    assert not page.locator("nav").is_visible()
    assert page.locator("details table").first.bounding_box()["height"] > 20
