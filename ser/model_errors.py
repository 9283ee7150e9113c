"""What libraries raise for a damaged model becomes one line that names the model."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def named_if_damaged(flag: str, name: str, own: type[Exception] | tuple = ()) -> Iterator[None]:
    """Turns any error of loading into a ValueError that begins with the flag and names the model.

    transformers, safetensors and huggingface_hub check a damaged `config.json` or header of weights in their own ways,
    or not at all: it then fails where the value is used, as a TypeError, an IndexError or an error of their own.

    Args:
        flag: The flag that named the model, such as `--model`.
        name: Its folder or repository.
        own: Errors of our own checks in the block, which say by themselves what to do; they pass.

    Raises:
        ValueError: Something was raised in the block. An ImportError passes: it says what to install.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        text = first_line(error)
        is_own = isinstance(error, own) or str(error).startswith(f"{flag}: ")
        if is_own and text == str(error):
            raise
        raise ValueError(f"{flag}: {name} cannot be loaded: {text}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not empty; the name of its type if it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
