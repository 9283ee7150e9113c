"""The YAML files of `configs/`: beside `run_ser.py` in a checkout, under `share/ser/configs` after `pip install`."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_CHECKOUT = Path(__file__).parents[1] / "configs"
_INSTALLED = "share/ser/configs/"


def shipped_configs() -> dict[str, Path]:
    """Paths of the shipped configurations by name, such as `demo` or `recipes/probe`, sorted.

    Raises:
        FileNotFoundError: This installation has none.
    """
    if _CHECKOUT.is_dir():
        found = {path.relative_to(_CHECKOUT).as_posix(): path for path in _CHECKOUT.rglob("*.yaml")}
    else:
        found = {}
        try:
            for file in files("ser") or ():
                _, inside, name = file.as_posix().partition(_INSTALLED)
                if inside and name.endswith(".yaml"):
                    found[name] = Path(file.locate()).resolve()
        except PackageNotFoundError:
            pass
    if not found:
        raise FileNotFoundError("This installation holds no configurations; install ser again with pip.")
    return {name.removesuffix(".yaml"): found[name] for name in sorted(found)}


def configs_table() -> str:
    """One line for each shipped configuration: its name, and the first line of its comment."""
    configs = shipped_configs()
    width = max(map(len, configs))
    return "\n".join(f"{name.ljust(width)}  {_about(path)}" for name, path in configs.items())


def config_text(name: str) -> str:
    """The text of a shipped configuration.

    Raises:
        ValueError: There is none of this name.
    """
    configs = shipped_configs()
    key = name.removeprefix("configs/").removesuffix(".yaml")
    if key not in configs:
        raise ValueError(f"NAME: there is no configuration {name!r}; `ser configs` lists them.")
    return configs[key].read_text(encoding="utf-8")


def _about(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
