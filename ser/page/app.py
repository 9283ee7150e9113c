"""`ser serve`: the page where one records, uploads and hears, made with Gradio, and served without a network."""

import os
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ser.inference.loading import results_of_model
from ser.page.answer import ReadBlocks, classify
from ser.page.html import answer_html, error_html, header_html, limits_html, text_html, threshold_of
from ser.run_folder import EXAMPLES

_TEMPLATES = Path(__file__).parent / "templates"
# Fonts of the reader's machine: none is fetched.
_FONTS = ("system-ui", "Segoe UI", "Vazirmatn", "Noto Sans Arabic", "Noto Sans", "Tahoma", "sans-serif")
_HOUR_SECONDS = 3600


def serve(pipe: Any, read_blocks: ReadBlocks, model: str, **launch: Any) -> None:
    """Serves the page until it is interrupted.

    Args:
        pipe: A `SERPipeline`.
        read_blocks: `ser_model.read_blocks`.
        model: The folder or repository that the pipeline comes from, for its results and example clips.
        launch: What `gradio.Blocks.launch` takes, such as `server_port`; the server is on 127.0.0.1 by default.

    Raises:
        ImportError: Gradio is not installed.
        OSError: The port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="ser-page-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # recordings of one server, gone when it ends
        page = make_page(pipe, read_blocks, model)
        page.launch(**{**look(), **launch})


def make_page(pipe: Any, read_blocks: ReadBlocks, model: str) -> Any:
    """The page as `gradio.Blocks`; launch it with what `look` returns.

    Visitors share one model, which takes one recording at a time; nothing of one visitor is kept for the next.
    """
    check_gradio()
    import gradio

    results = results_of_model(model)
    html = partial(gradio.HTML, apply_default_css=False)
    regression = pipe.model.config.problem_type == "regression"

    def answer(path: str | None) -> str:
        if not path:
            return text_html("waiting")
        try:
            heard = classify(pipe, read_blocks, Path(path))
        except ValueError as error:
            return error_html(Path(path).name, str(error))
        audio.temp_files.add(str(heard.sound))  # deleted when the recording itself is
        return answer_html(heard, threshold_of(results), regression)

    with gradio.Blocks(
        analytics_enabled=False, title=f"ser: {_name(model)}", delete_cache=(_HOUR_SECONDS, _HOUR_SECONDS)
    ) as page:
        html(header_html())
        with gradio.Row():
            with gradio.Column(scale=3, min_width=320):
                audio = gradio.Audio(
                    sources=["upload", "microphone"], type="filepath", show_label=False, buttons=[], elem_id="ser-audio"
                )
                _add_examples(html, audio, model)
                shown = html(text_html("waiting"), elem_id="ser-answer")
            with gradio.Column(scale=2, min_width=300):
                html(limits_html(results, _name(model)))
        audio.change(answer, audio, shown, concurrency_limit=1, concurrency_id="model", api_name="classify")
    return page


def look() -> dict[str, Any]:
    """What the page is launched with: style, script, and nothing that leaves this machine."""
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
    }


def check_gradio() -> None:
    """Says how to get Gradio, and turns its telemetry off.

    Raises:
        ImportError: It is not installed.
    """
    if find_spec("gradio") is None:
        raise ImportError("The page needs gradio, which is not installed: pip install 'ser[serve]'.")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def _add_examples(html: Any, audio: Any, model: str) -> None:
    """A button for each clip that the run brings along."""
    import gradio

    clips = sorted((Path(model) / EXAMPLES).glob("*.wav"))
    if clips:
        with gradio.Column(elem_id="ser-examples"):
            html(text_html("examples"))
            gradio.Examples([[str(clip)] for clip in clips], audio, example_labels=[clip.stem for clip in clips])


def _name(model: str) -> str:
    """What the page calls the model; of a folder, its own name."""
    return Path(model).resolve().name if Path(model).is_dir() else model
