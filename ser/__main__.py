"""`python -m ser`: the `ser` command."""

from ser.cli import app

if __name__ == "__main__":
    app(prog_name="ser")
