"""`ser serve`: the page to record or upload speech, made with Gradio; it needs no network."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ser.inference.loading import results_of_model
from ser.page.answer import Limits, classify
from ser.page.decoding import Decoder
from ser.page.html import (
    answer_html,
    error_html,
    examples_html,
    header_html,
    is_synthetic,
    limits_html,
    text_html,
    threshold_of,
)
from ser.page.storage import page_folder
from ser.page.translations import example_names
from ser.run_folder import EXAMPLES, PREDICTIONS

_TEMPLATES = Path(__file__).parent / "templates"
# Fonts of the visitor's machine; none is downloaded.
_FONTS = ("system-ui", "Segoe UI", "Vazirmatn", "Noto Sans Arabic", "Noto Sans", "Tahoma", "sans-serif")
_HOUR_SECONDS = 3600
_OWN_HOSTS = ("127.0.0.1", "localhost", "::1")
# One piece of a recording is scored to its end.
_CLOSING_SECONDS = 20.0
# Recordings that wait for the model; a further visitor is told that the page is busy.
MAX_WAITING = 20
# Gradio keeps the last recording and answer of every session, 10,000 of them by default. This page reads none back, and
# a session that was dropped begins again.
MAX_SESSIONS = 2 * MAX_WAITING


def serve(pipe: Any, model: str, limits: Limits | None = None, **launch: Any) -> None:
    """Serves the page until it is interrupted.

    Args:
        pipe: A `SERPipeline`.
        model: The folder or repository that the pipeline comes from, for its results and example clips.
        limits: What one recording may take.
        launch: What `gradio.Blocks.launch` takes, such as `server_port`; the server is on 127.0.0.1 by default.

    Raises:
        ImportError: Gradio is not installed.
        OSError: The port is taken.
    """
    host = launch.get("server_name") or "127.0.0.1"
    if (host not in _OWN_HOSTS or launch.get("share")) and not launch.get("auth"):
        print("ser: warning: others can reach this page without a password; set one with --auth.", file=sys.stderr)
    decoder = Decoder()
    with page_folder() as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        decoder.start()
        try:
            page = make_page(pipe, model, limits or Limits(), decoder).queue(max_size=MAX_WAITING)
            with suppress(KeyboardInterrupt):
                page.launch(**{**look(), **launch})
        finally:
            _end_scoring(pipe, decoder)


def _end_scoring(pipe: Any, decoder: Decoder) -> None:
    """Ends what is scored now: Python cannot leave in order while a thread computes."""

    def refuse(*_: Any) -> None:
        raise ValueError("The page is closing.")

    pipe.model.register_forward_pre_hook(refuse)
    decoder.close()
    decoder.in_use.acquire(timeout=_CLOSING_SECONDS)


def read_auth(path: Path | None) -> tuple[str, str] | None:
    """User and password of the page, from a file or from SER_PAGE_AUTH; a command line would show them to all users.

    Args:
        path: A file that holds `user:password`; by default the environment variable is read.

    Returns:
        User and password; None where neither is given.

    Raises:
        ValueError, OSError: The file cannot be read, or the text is not `user:password`.
    """
    name = "SER_PAGE_AUTH" if path is None else f"--auth: {path}"
    text = os.environ.get("SER_PAGE_AUTH") if path is None else path.read_text(encoding="utf-8")
    if text is None:
        return None
    user, _, password = text.strip().partition(":")
    if not user or not password:
        raise ValueError(f"{name}: expected user:password on one line.")
    return user, password


def make_page(pipe: Any, model: str, limits: Limits, decoder: Decoder | None = None) -> Any:
    """The page as `gradio.Blocks`; launch it with what `look` returns.

    Visitors share one model, which takes one recording at a time; nothing of one visitor is kept for the next.

    Args:
        decoder: The process that decodes recordings; by default this one does.
    """
    check_gradio()
    import gradio

    results = results_of_model(model)
    html = partial(gradio.HTML, apply_default_css=False)
    regression = pipe.model.config.problem_type == "regression"
    # Gradio answers in threads that change; each would keep memory for what it once computed.
    scoring = ThreadPoolExecutor(1)

    def answer(path: str | None) -> str:
        if not path:
            return text_html("waiting")
        try:
            heard = scoring.submit(classify, pipe, Path(path), limits, decoder).result()
        except ValueError as error:
            return error_html(Path(path).name, str(error))
        forget_deleted(page)
        audio.temp_files.add(str(heard.sound))  # deleted when the recording itself is
        return answer_html(heard, threshold_of(results), regression, is_synthetic(results))

    with gradio.Blocks(
        analytics_enabled=False, title=f"ser: {_name(model)}", delete_cache=(_HOUR_SECONDS, _HOUR_SECONDS)
    ) as page:
        html(header_html())
        with gradio.Row():
            with gradio.Column(scale=3, min_width=320):
                audio = gradio.Audio(
                    sources=["microphone", "upload"], type="filepath", show_label=False, buttons=[], elem_id="ser-audio"
                )
                _add_examples(html, audio, model)
                shown = html(text_html("waiting"), elem_id="ser-answer")
            with gradio.Column(scale=2, min_width=300):
                html(limits_html(results, _name(model), limits, MAX_WAITING))
        audio.change(answer, audio, shown, concurrency_limit=1, concurrency_id="model", api_name="classify")
    return page


def forget_deleted(page: Any) -> None:
    """Takes recordings that are gone out of the lists of a page: Gradio forgets only files that it deletes itself."""
    for names in page.temp_file_sets:
        names.difference_update([name for name in list(names) if not Path(name).parent.is_dir()])


def look() -> dict[str, Any]:
    """Arguments of `launch`: style and script, without anything that sends data elsewhere."""
    import gradio

    return {
        "theme": gradio.themes.Base(font=_FONTS, font_mono=("ui-monospace", "monospace"), primary_hue="blue"),
        "css_paths": _TEMPLATES / "page.css",
        "head": f"<script>{(_TEMPLATES / 'page.js').read_text(encoding='utf-8')}</script>",
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "max_file_size": "1gb",
        "state_session_capacity": MAX_SESSIONS,
    }


def check_gradio() -> None:
    """Checks that Gradio is installed, and turns off its telemetry and its list of who asked when.

    Raises:
        ImportError: It is not installed.
    """
    if find_spec("gradio") is None:
        raise ImportError("The page needs gradio, which is not installed: pip install 'ser[serve]'.")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"  # of 10,000, from which it computes a table after each answer


def _add_examples(html: Any, audio: Any, model: str) -> None:
    """Adds a button for each example clip of the run; Gradio's own buttons, which know one language, are not shown."""
    import gradio

    clips = sorted((Path(model) / EXAMPLES).glob("*.wav"))
    if clips:
        with gradio.Column(elem_id="ser-examples"):
            html(examples_html(_names_of(clips, Path(model) / PREDICTIONS)))
            gradio.Examples([[str(clip)] for clip in clips], audio, example_labels=[clip.stem for clip in clips])


def _names_of(clips: list[Path], predictions: Path) -> list[tuple[str, str]]:
    """Names of examples in words, from the run's predictions; file names where these do not have the clips."""
    names = [clip.stem for clip in clips]
    if predictions.is_file():
        import pandas as pd

        table = pd.read_parquet(predictions).drop_duplicates("id").set_index("id")
        if "truth" in table and set(names) <= set(table.index):
            return example_names([(table["truth"][name], table["gender"][name]) for name in names])
    return [(name, name) for name in names]


def _name(model: str) -> str:
    """The model's name on the page; for a folder, the folder's name."""
    return Path(model).resolve().name if Path(model).is_dir() else model
