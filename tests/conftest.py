"""What tests share: no network, few threads, and real speech where it is at hand."""

import base64
import gc
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    *(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
    ),
]
SHARED = Path(__file__).parents[2] / "shared" / "data"
# Painting the figures of a run takes longer than a tiny training.
_UNPAINTED_IN_EVALUATION = ("test_schema", "test_calibration_words", "test_corpora_results", "test_diagnosis")
ROOMS_WITHOUT_PICTURES = (
    *(f"tests/{room}/" for room in ("training", "experiments", "inference", "publish")),
    *(f"tests/evaluation/{module}.py" for module in _UNPAINTED_IN_EVALUATION),
)
BLANK_SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><defs/></svg>'
BLANK_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
)


def pytest_addoption(parser):
    parser.addoption("--all-clips", action="store_true", help="base size: 20 clips up to 12 s for every backbone")


@pytest.fixture
def all_cores():
    """Gives torch every core for models of real size; small ones lose by a second thread (see tiny.py)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count())
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, with a microphone of its own."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if not CHROMIUM.is_file():
        pytest.skip(f"{CHROMIUM} is not there: apt-get install chromium")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def emodb_dir() -> Path:
    """Folder of the Berlin Database of Emotional Speech, 535 clips."""
    return _shared("emodb")


@pytest.fixture(scope="session")
def shemo_meta_dir() -> Path:
    """Folder of ShEMO's metadata, without its audio."""
    return _shared("shemo")


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not beside this checkout (looked for ../shared/data/{name})")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    """Prepared corpora and remote code go to a folder of this session: a test sees no other run's cache."""
    import datasets

    folder = tmp_path_factory.mktemp("cache")
    datasets.config.HF_DATASETS_CACHE = folder


def pytest_collection_finish():
    """Takes what was imported out of garbage collection: every training collects, over millions of objects."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _blank_pictures():
    """Saves figures unpainted in the rooms that train, score and publish; `tests/evaluation` tests what is painted."""
    from matplotlib.figure import Figure

    paint = Figure.savefig

    def save(figure, target, **options):
        if not os.environ.get("PYTEST_CURRENT_TEST", "").startswith(ROOMS_WITHOUT_PICTURES):
            paint(figure, target, **options)
        elif options["format"] == "svg":
            target.write(BLANK_SVG)
        else:
            Path(target).write_bytes(BLANK_PNG)

    Figure.savefig = save
    yield
    Figure.savefig = paint
