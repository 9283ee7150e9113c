"""axe-core, which looks for what some people cannot read or use."""

import shutil
import subprocess

import pytest

AXE = "axe-core@4.14.1"
# Gradio fades an answer in; the colours in between are nobody's choice. A spinner has no end and is not waited for.
SETTLED = """async () => {
    const ends = (animation) => animation.effect.getComputedTiming().endTime !== Infinity;
    const fading = () => document.getAnimations().filter(ends);
    while (document.querySelector(".pending") || fading().length) {
        await Promise.allSettled(fading().map((animation) => animation.finished));
        await new Promise(requestAnimationFrame);
    }
}"""


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """Finds what axe-core calls serious or critical on a page, a line for each; npm installs it for the tests alone."""
    if (npm := shutil.which("npm")) is None:
        pytest.skip("npm is not installed: it gets axe-core")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), AXE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot get {AXE}: {done.stderr.strip().splitlines()[-1:]}")
    script = (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")

    def found(page) -> list[str]:
        page.evaluate(script)
        page.evaluate(SETTLED)
        problems = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [
            f"{problem['id']}: {node['html'][:150]}: {' '.join(node['failureSummary'].split())[:250]}"
            for problem in problems
            if problem["impact"] in ("serious", "critical")
            for node in problem["nodes"]
        ]

    return found
