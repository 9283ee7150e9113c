"""axe-core, which looks for what some people cannot read or use."""

import shutil
import subprocess

import pytest

AXE = "axe-core@4.14.1"


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
        problems = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [
            f"{problem['id']}: {node['html'][:150]}: {' '.join(node['failureSummary'].split())[:250]}"
            for problem in problems
            if problem["impact"] in ("serious", "critical")
            for node in problem["nodes"]
        ]

    return found
