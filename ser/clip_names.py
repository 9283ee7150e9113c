"""Finds the clip that a name means: an id, a relative path or a path of another machine."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ser.audio_files import AUDIO_SUFFIXES
from ser.names import tidy

_SUFFIX = re.compile(rf"({'|'.join(map(re.escape, AUDIO_SUFFIXES))})$", flags=re.IGNORECASE)


def plain_name(name: str) -> str:
    """A path as a name: `/` between its parts, no `./` before it, no suffix of an audio file."""
    name = tidy(name).replace("\\", "/")
    return _SUFFIX.sub("", re.sub(r"^(\./+)+", "", name))


def stem(name: str) -> str:
    """The last part of a path, without the suffix of an audio file."""
    return plain_name(name).rsplit("/", 1)[-1]


def tails(name: str) -> list[str]:
    """The last part of a plain name, the last two, ..., all: `a/b/c` gives `c`, `b/c`, `a/b/c`."""
    parts = name.split("/")
    return ["/".join(parts[-count:]) for count in range(1, len(parts) + 1)]


def matched(names: Iterable[str], ids: Iterable[str], source: str) -> dict[str, str]:
    """The id that each name means; names that mean no id are left out.

    A name means the id that equals it, else the id that is its longest tail (`/home/x/wav/03a01Fa.wav` means
    `03a01Fa`), else the only id whose tail it is (`000` means `spk1/000` where no other folder holds a `000`).

    Args:
        names: Ids or paths from a file.
        ids: The ids of the corpus.
        source: The flag that gave the names, for messages.

    Raises:
        ValueError: A name means two ids, two names mean one, or a name and the only id with its file name lie in
            different folders. The message names the two.
    """
    names, ids = list(dict.fromkeys(names)), list(dict.fromkeys(ids))
    whole, by_tail = defaultdict(list), defaultdict(list)
    for i in ids:
        whole[plain_name(i)].append(i)
        for tail in tails(plain_name(i)):
            by_tail[tail].append(i)
    exact = set(ids)
    found = {name: name for name in names if name in exact}
    taken = set(found)
    for name in (name for name in names if name not in exact):
        meant = _meant(plain_name(name), whole, by_tail)
        if len(meant) > 1:
            raise ValueError(f"{source}: {name!r} may be {meant[0]!r} or {meant[1]!r}. {_REMEDY}")
        if meant and meant[0] not in taken:
            found[name] = meant[0]
    _check_apart(found, source)
    _check_folders(names, found, by_tail, source)
    return found


_REMEDY = "Give the ids of the corpus, or paths with the folders that tell one from the other."


def one_name_each(files: Sequence[Iterable[str]]) -> dict[str, str]:
    """One name for each clip that several files of a split name, with more folders in one file than in another.

    A name that is the tail of one name in another file means the same clip. Two names in one file mean two clips, and
    so do names in different folders. Where all names are absolute paths, the folder that they share is cut off.

    Raises:
        ValueError: A name is the tail of two others; the message names them.
    """
    where, by_tail = defaultdict(set), defaultdict(set)
    for number, names in enumerate(files):
        for name in names:
            where[plain_name(name)].add(number)
    for name in where:
        for tail in tails(name):
            by_tail[tail].add(name)
    longest = {}
    for name in where:
        longer = {other for other in by_tail[name] if other != name and not where[other] & where[name]}
        ends = sorted(one for one in longer if not longer & (by_tail[one] - {one}))
        if len(ends) > 1:
            raise ValueError(f"{name!r} may be {ends[0]!r} or {ends[1]!r}. {_REMEDY}")
        longest[name] = ends[0] if ends else name
    shared = _shared_folder(set(longest.values()))
    return {name: longest[plain_name(name)].removeprefix(shared) for names in files for name in names}


def shortest_ids(paths: Iterable[str]) -> dict[str, str]:
    """Ids of files by their paths: the last part of the path, or as many last parts as tell all files apart.

    The folders before them would carry the names of the user's machine into every table of predictions.
    """
    plains = {path: plain_name(path) for path in paths}
    different, most = set(plains.values()), max((name.count("/") + 1 for name in plains.values()), default=1)
    for count in range(1, most + 1):
        ids = {path: "/".join(name.split("/")[-count:]).lstrip("/") for path, name in plains.items()}
        if len(set(ids.values())) == len(different):
            break
    return ids


def _meant(name: str, whole: dict[str, list[str]], by_tail: dict[str, list[str]]) -> list[str]:
    """The ids that a plain name may mean; an id in another folder is not one of them."""
    for tail in reversed(tails(name)):
        if tail in whole:
            return whole[tail]
    return by_tail.get(name, [])


def _check_apart(found: dict[str, str], source: str) -> None:
    """Refuses two different names that mean one clip."""
    name_of: dict[str, str] = {}
    for name, i in found.items():
        other = name_of.setdefault(i, name)
        if plain_name(other) != plain_name(name):
            raise ValueError(f"{source}: {other!r} and {name!r} may both be {i!r}. {_REMEDY}")


def _check_folders(names: list[str], found: dict[str, str], by_tail: dict[str, list[str]], source: str) -> None:
    """Refuses a name and an id that differ in their folders alone, where no other name or id has that file name."""
    by_stem = defaultdict(set)
    for name in names:
        by_stem[stem(name)].add(plain_name(name))
    for name in names:
        same = by_tail.get(stem(name), [])
        if name not in found and len(same) == 1 and len(by_stem[stem(name)]) == 1:
            raise ValueError(f"{source}: {name!r} and {same[0]!r} have one file name in different folders. {_REMEDY}")


def _shared_folder(names: set[str]) -> str:
    """The folder that absolute paths share, with a slash at its end; empty where a path is relative."""
    if not names or not all(re.match(r"/|[A-Za-z]:/", name) for name in names):
        return ""
    folders = [name.split("/")[:-1] for name in names]
    count = next(
        (depth for depth, parts in enumerate(zip(*folders, strict=False)) if len(set(parts)) > 1),
        min(len(folder) for folder in folders),
    )
    return "".join(f"{part}/" for part in folders[0][:count])
