"""Reading of flat YAML files, with bounds on what a file may ask for."""

from pathlib import Path
from typing import Any

# Far more values than a configuration needs, few enough to print.
_MAX_NODES = 10_000
_TEXT = "tag:yaml.org,2002:str"


def read_yaml(path: Path, max_nodes: int = _MAX_NODES) -> dict[str, Any]:
    """Reads a flat YAML file.

    Names keep their letters: the keys of an object in it, and the labels of a `label_map`, where YAML would read `no`
    as false and `01` as 1.

    Args:
        max_nodes: Most values that its anchors may expand to.

    Raises:
        ValueError: It is not YAML in UTF-8, not one mapping of keys to values, names a key twice, is nested too
            deeply, or expands without end through its anchors.
        FileNotFoundError: There is no such file.
    """
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such configuration file.")
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if _expanded_size(tree, {}) > max_nodes:
            raise ValueError(f"{path}: its anchors expand to more than {max_nodes} values; write them out.")
        if tree is not None:
            _keep_names(tree)
        values = _constructed(tree)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8.") from None
    except RecursionError:
        raise ValueError(f"{path}: is nested too deeply; expected lines of the form `key: value`.") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is not YAML: {_where(error)}{' '.join(_problem(error).split())}") from None
    if tree is None or not isinstance(values, dict):
        raise ValueError(f"{path}: expected lines of the form `key: value`, found {type(values).__name__}.")
    keys = [str(node[0].value) for node in tree.value]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"{path}: key {twice[0]!r} is given twice.")
    return {str(key): value for key, value in values.items()}


def _constructed(tree: Any) -> Any:
    """The values of a YAML document; None of an empty one.

    Raises:
        yaml.YAMLError: A value is not what its tag or its form says, such as a date of month 13.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except (ValueError, TypeError, AttributeError, OverflowError) as error:  # of Python's own types
                problem = f"{node.value!r} is not what it looks like ({error}); put it in quotes"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    return None if tree is None else Loader("").construct_document(tree)


def _where(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""


def _problem(error: Any) -> str:
    return getattr(error, "problem", None) or str(error)


def _expanded_size(node: Any, sizes: dict[int, float]) -> float:
    """Number of values in a YAML node when its aliases are written out; infinite for a node inside itself."""
    if id(node) not in sizes:
        sizes[id(node)] = float("inf")
        inside = node.value if isinstance(getattr(node, "value", None), list) else []
        children = [child for entry in inside for child in (entry if isinstance(entry, tuple) else (entry,))]
        sizes[id(node)] = 1 + sum(_expanded_size(child, sizes) for child in children)
    return sizes[id(node)]


def _keep_names(node: Any, are_labels: bool = False) -> None:
    """Marks the keys below a node, and with `are_labels` its values but for null, as text."""
    if not isinstance(node.value, list):
        is_text = are_labels and node.tag != "tag:yaml.org,2002:null"
        node.tag = _TEXT if is_text else node.tag
        return
    for entry in node.value:
        if not isinstance(entry, tuple):
            _keep_names(entry, are_labels)
            continue
        key, value = entry
        if not isinstance(key.value, list) and key.tag != "tag:yaml.org,2002:merge":
            key.tag = _TEXT
        _keep_names(value, are_labels or key.value == "label_map")
