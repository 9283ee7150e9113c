"""`ser serve` as a visitor sees it, in headless Chromium; `SER_SCREENSHOTS=FOLDER` keeps pictures of it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile
from fakes.made_run import make_run
from fakes.tiny import noise

from ser.files import write_json
from ser.run_folder import read_results

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
SHARED_CLIPS = ROOT.parent / "shared" / "data" / "emodb" / "wav"
UPLOAD = "#ser-audio input[type=file]"
TABS = "#ser-audio .source-selection button"
# What Gradio would fill in, were it taken for a template.
TEMPLATE = "${40+2} {{value}} <b>"
QUEUE_FULL = "Queue is full. Max size is 20 and size is 20."
WAIT_MS = 30_000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Recordings by name: real speech where it is at hand, syllables of noise where not."""
    folder = tmp_path_factory.mktemp("recordings")
    real = [SHARED_CLIPS / f"{name}.wav" for name in ("03a01Fa", "08a01Na", "09a01Ea", "10a01Ac", "03a01Wa")]
    waves = [soundfile.read(path)[0] if path.is_file() else noise(2.0, seed) for seed, path in enumerate(real)]
    pause = np.zeros(16_000)
    soundfile.write(folder / "clip.wav", waves[0], 16_000)
    soundfile.write(folder / "گفتگو.wav", np.concatenate([part for wave in waves for part in (wave, pause)]), 16_000)
    soundfile.write(folder / "silence.wav", pause, 16_000)
    (folder / "notes.wav").write_text("these are words")
    (folder / "empty.wav").touch()
    return folder


@pytest.fixture(scope="module")
def address(browser, files, tmp_path_factory):
    """Where `ser serve` serves a run of random weights, with a threshold and an example."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'ser[serve]'")
    run = make_run(tmp_path_factory.mktemp("made")).folder
    results = dict(read_results(run))
    results["calibration"] |= {"precision_90": {"threshold": 0.45, "test": {"precision": 0.9, "coverage": 0.5, "n": 9}}}
    results["corpus"] |= {"name": TEMPLATE}
    write_json(results, run / "results.json")
    (run / "examples").mkdir()
    shutil.copyfile(files / "clip.wav", run / "examples" / "a clip.wav")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        "from ser.cli import app; app()",
        "serve",
        "--model",
        str(run),
        "--port",
        str(port),
    ]
    log = tmp_path_factory.mktemp("log") / "serve.log"
    with open(log, "w") as output:
        server = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield _up(f"http://127.0.0.1:{port}/", server, log)
    finally:
        server.terminate()
        server.wait(30)


def _up(address, server, log):
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            with urlopen(address, timeout=5):
                return address
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"ser serve did not start: {log.read_text()}")


@pytest.fixture
def open_page(browser, address):
    """Opens the page in a window of its own; what it asked for and complained of is in `asked` and `said`."""
    contexts = []

    def open_(width=1280, **window):
        context = browser.new_context(viewport={"width": width, "height": 900}, **{"locale": "en-GB", **window})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#ser-audio .record-button")
        return page

    yield open_
    for context in contexts:
        context.close()


def upload(page, path, shown=".ser-answer"):
    """Gives the page a recording, in the place of another if there is one, and waits for what it says to it."""
    if page.locator("#ser-audio .standard-player").count():
        page.click("#ser-audio .top-panel button")
    page.wait_for_selector("#ser-answer .ser-note")
    if not page.locator(UPLOAD).count():
        page.click(f"{TABS} >> nth=0")  # recording comes first
    page.set_input_files(UPLOAD, path)
    page.wait_for_selector(shown)


def keep(page, name):
    """A picture of the whole page, where pictures are wanted."""
    if folder := os.environ.get("SER_SCREENSHOTS"):
        page.wait_for_timeout(500)
        page.screenshot(path=f"{folder}/{name}-{page.viewport_size['width']}.png", full_page=True)


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_clip_is_scored_and_nothing_but_this_server_is_asked(open_page, address, files):
    page = open_page()
    keep(page, "start")
    upload(page, files / "clip.wav")
    keep(page, "clip")
    shares = [int(re.sub(r"\D", "", text)) for text in page.locator(".bars .value .en").all_inner_texts()]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)
    assert abs(sum(shares) - 100) <= 3
    assert page.locator(".timeline").count() == 0
    assert [url for url in page.asked if not url.startswith((address, "data:", "blob:"))] == []
    assert page.said == []


@pytest.mark.parametrize("width", [1280, 390])
def test_a_long_recording_has_a_timeline_whose_parts_are_heard_on_a_click(open_page, files, width):
    page = open_page(width)
    upload(page, files / "گفتگو.wav")
    keep(page, "long")
    assert fits(page)
    parts = page.locator(".timeline button:not(.quiet)")
    assert parts.count() >= 2
    assert page.locator(".segments li").count() == parts.count()
    assert page.locator(".timeline button.quiet").count() >= 2
    start = float(parts.nth(1).get_attribute("data-start"))
    end = float(parts.nth(1).get_attribute("data-end"))
    parts.nth(1).click()
    page.wait_for_function(f"document.querySelector('.ser-player').currentTime > {start}")
    assert page.locator(".segments .playing").count() == 1
    page.wait_for_function("document.querySelector('.ser-player').paused")
    assert end <= page.evaluate("document.querySelector('.ser-player').currentTime") < end + 0.5


def test_the_timeline_is_downloaded_as_a_table_and_as_subtitles(open_page, files):
    page = open_page()
    upload(page, files / "گفتگو.wav")
    texts = {}
    for link in page.locator(".downloads a").all():
        with page.expect_download() as download:
            link.click()
        texts[download.value.suggested_filename] = Path(download.value.path()).read_text(encoding="utf-8")
    assert sorted(texts) == ["گفتگو.csv", "گفتگو.srt"]
    assert texts["گفتگو.csv"].startswith("file,start,end,label,score,p_anger")
    assert texts["گفتگو.srt"].startswith("1\n00:00:00,")


def test_a_bad_file_gets_a_sentence_and_the_page_stays_of_use(open_page, files):
    page = open_page()
    for name, reason in (("notes.wav", "is not audio"), ("silence.wav", "is silent")):
        upload(page, files / name, ".ser-error")
        assert reason in page.inner_text(".ser-error")
        assert name in page.inner_text(".ser-error")
    keep(page, "bad")
    assert "Traceback" not in page.inner_text("body")
    upload(page, files / "clip.wav")
    assert page.locator(".bars li").count() == 5


def test_an_empty_file_is_refused_in_words_too(open_page, files):
    page = open_page()
    upload(page, files / "empty.wav", ".ser-error")
    assert "0 bytes" in page.inner_text(".ser-error")


@pytest.mark.parametrize("width", [1280, 390])
def test_persian_reads_from_right_to_left_and_keeps_the_answer(open_page, files, width):
    page = open_page(width)
    page.click("button[data-language=fa]")
    page.wait_for_selector("text=ضبط صدا")
    keep(page, "start-fa")
    upload(page, files / "گفتگو.wav")
    keep(page, "long-fa")
    assert page.evaluate("document.documentElement.dir") == "rtl"
    assert page.evaluate("getComputedStyle(document.querySelector('.ser-answer')).direction") == "rtl"
    assert page.locator(".bars .name .en >> visible=true").count() == 0
    assert page.locator(".bars .name .fa >> visible=true").count() == 5
    assert "٪" in page.inner_text(".bars")
    assert fits(page)
    page.click("button[data-language=en]")
    assert page.evaluate("document.documentElement.dir") == "ltr"
    assert page.locator(".bars .name .en >> visible=true").count() == 5


def test_the_choice_of_language_outlives_a_visit(open_page):
    page = open_page()
    page.click("button[data-language=fa]")
    page.reload()
    page.wait_for_selector("html[dir=rtl]")


def test_an_example_is_one_click_away(open_page):
    page = open_page()
    page.click("#ser-examples button[data-example]")
    page.wait_for_selector(".ser-answer")


def test_the_microphone_is_recorded_and_scored(open_page):
    page = open_page(permissions=["microphone"])
    button = page.locator("#ser-audio .record-button")
    assert button.bounding_box()["height"] >= 60
    button.click()
    page.wait_for_timeout(2500)
    page.click("#ser-audio .stop-button")
    page.wait_for_selector(".ser-answer, .ser-error")
    assert page.locator(".ser-answer").count() == 1


def test_a_dark_screen_gets_a_dark_page(open_page, files):
    page = open_page(color_scheme="dark")
    upload(page, files / "گفتگو.wav")
    keep(page, "dark")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert max(light[:3]) < 60


def test_a_name_is_hidden_where_its_part_is_narrower_and_the_legend_has_it(open_page, files):
    page = open_page(390)
    upload(page, files / "گفتگو.wav")
    cut = """() => [...document.querySelectorAll(".timeline button b")].map((box) => {
        const name = [...box.children].find((span) => span.offsetWidth), edge = box.getBoundingClientRect();
        const text = name?.getBoundingClientRect();
        const seen = text && text.top < edge.bottom;
        return [Boolean(seen), Boolean(seen) && (text.left < edge.left - 1 || text.right > edge.right + 1)];
    })"""
    names = page.evaluate(cut)
    assert not any(is_cut for _, is_cut in names)
    assert not all(is_seen for is_seen, _ in names)
    heard = set(page.locator(".segments .name .en").all_inner_texts()) - {"Not sure"}
    assert heard <= {text.strip() for text in page.locator(".legend .en").all_inner_texts()}
    if page.locator(".timeline button.unsure").count():
        assert "hatched" in page.inner_text(".legend")


def test_a_list_that_is_cut_ends_within_a_row_and_fades(open_page, files):
    page = open_page()
    upload(page, files / "گفتگو.wav")
    page.add_style_tag(content=".gradio-container .segments { max-height: calc(1.5 * var(--row)) }")
    rest = """() => { const list = document.querySelector(".segments");
        return (list.clientHeight % list.firstElementChild.offsetHeight) / list.firstElementChild.offsetHeight }"""
    assert 0.3 < page.evaluate(rest) < 0.7
    page.evaluate("document.querySelector('.segments').scrollTop = 1")
    page.wait_for_selector(".segments-frame.more")
    page.evaluate("document.querySelector('.segments').scrollTop = 1e6")
    page.wait_for_selector(".segments-frame:not(.more)")


def test_there_is_one_player_with_times_in_the_digits_of_the_language(open_page, files):
    page = open_page()
    upload(page, files / "clip.wav")
    assert page.locator("#ser-audio .component-wrapper >> visible=true").count() == 0
    assert page.inner_text(".player .time").startswith("0:00 / 0:0")
    page.click(".player .toggle")
    page.wait_for_selector(".player.playing")
    page.click("button[data-language=fa]")
    page.wait_for_function("/^۰:۰. . ۰:۰.$/.test(document.querySelector('.player .time').textContent)")


def test_gradio_speaks_the_language_of_the_switch_and_not_that_of_the_browser(open_page):
    page = open_page(locale="de-DE")
    assert page.inner_text("#ser-audio .record-button").strip() == "Record"
    page.click(f"{TABS} >> nth=0")
    page.wait_for_selector("text=Drop audio here")
    assert page.evaluate("document.documentElement.lang") == "en"
    persian = open_page(locale="fa-IR")
    persian.wait_for_selector("html[lang=fa][dir=rtl]")
    persian.wait_for_selector("text=ضبط صدا")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "fa"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious_before_or_after_an_answer(open_page, files, axe, scheme, language, width):
    page = open_page(width, color_scheme=scheme)
    page.click(f"button[data-language={language}]")
    assert axe(page) == []
    page.click(f"{TABS} >> nth=0")
    assert axe(page) == []
    upload(page, files / "گفتگو.wav")
    assert axe(page) == []
    upload(page, files / "notes.wav", ".ser-error")
    assert axe(page) == []


def test_a_full_queue_is_told_in_the_language_of_the_visitor(open_page, files):
    page = open_page()
    page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={"detail": QUEUE_FULL}))
    page.click("button[data-language=fa]")
    page.click(f"{TABS} >> nth=0")
    page.set_input_files(UPLOAD, files / "clip.wav")
    page.wait_for_selector("#ser-answer [data-text^='فایل‌های زیادی در صف است']")
    keep(page, "full")


def test_the_limits_are_in_sight_before_any_answer(open_page):
    text = open_page().inner_text("#ser-limits")
    assert "UAR" in text
    assert "AI Act" in text
    assert "Under 45" in text


def test_a_name_that_looks_like_a_template_is_shown_letter_for_letter(open_page):
    assert TEMPLATE in open_page().inner_text("#ser-limits")
