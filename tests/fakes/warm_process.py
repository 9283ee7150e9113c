"""Runs command lines of this project in forks of one process, which has imported what takes six seconds.

Reads a JSON list a line, `[words, folder, stdout, stderr]`, and answers with the exit code.
"""

import json
import os
import runpy
import sys
import traceback
from pathlib import Path


def run(words: list[str], folder: str) -> int:
    """Does what the shell would do with `python FILE ...` or `ser ...`, in `folder`."""
    os.chdir(folder)
    is_file = words[0] == "python"
    sys.argv = words[is_file:]
    try:
        if is_file:
            sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            from ser.cli import app

            app()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    import run_ser  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        words, folder, *outputs = json.loads(line)
        if not (child := os.fork()):
            for number, name in enumerate(outputs, start=1):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            code = run(words, folder)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
