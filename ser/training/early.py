"""The start of `run_ser.py`, before torch is imported, and the line that it ends with when something is wrong."""

import os
import sys
from collections.abc import Sequence

from ser.progress import escape_unknown_letters, no_bars_in_files
from ser.training.command_line import check_command_line


def start(argv: Sequence[str]) -> None:
    """Ends the process with code 2 and one line if the command line cannot work; turns off bars that nobody watches.

    Of several processes, which all find the same, the first says it.
    """
    no_bars_in_files()
    escape_unknown_letters()
    try:
        check_command_line(argv)
    except (ValueError, OSError) as error:
        if any(token.startswith("--debug_errors") for token in argv):
            raise
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"run_ser.py: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


def one_line(error: object) -> str:
    """The words of an error without line breaks."""
    return " ".join(str(error).split())
