"""Checkpoints that can be trusted: each ends with a list of its files and their SHA-256, which is checked at resume."""

import hashlib
from pathlib import Path

from ser.files import read_json, write_json
from ser.run_folder import CHECKPOINTS

# The last file of each checkpoint.
SEAL = "sha256.json"
STATE = "trainer_state.json"


def seal(checkpoint: Path) -> None:
    """Writes the list of the files in `checkpoint` and their SHA-256, after everything else in it."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != SEAL)
    write_json({path.relative_to(checkpoint).as_posix(): _sha256(path) for path in files}, checkpoint / SEAL)


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None if it is whole.

    The best checkpoint that its state names must be whole too: its weights are loaded at the end of training.
    """
    if found := _damage_of_files(checkpoint):
        return found
    try:
        best = read_json(checkpoint / STATE).get("best_model_checkpoint")
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    other = checkpoint.parent / Path(best).name if best else checkpoint
    if other != checkpoint and (found := _damage_of_files(other)):
        return f"its best checkpoint is damaged ({found})"
    return None


def checkpoint_to_continue(folder: Path, asked: str | None = None) -> str | None:
    """The checkpoint from which a run goes on: the newest whole one, or the one that was asked for.

    Damaged ones are named on stdout and left where they are.

    Args:
        folder: Folder of the run.
        asked: Value of --resume_from_checkpoint: a path, `true`, or None.

    Returns:
        Its path; None to train from the start.

    Raises:
        ValueError: The path that was asked for is no whole checkpoint.
    """
    if asked is not None and asked.lower() != "true":
        if damage := damage_of(Path(asked)):
            raise ValueError(
                f"--resume_from_checkpoint: {asked}: {damage}. Give the folder of a whole checkpoint, or drop the "
                "flag: the same command goes on by itself from the newest whole one."
            )
        return asked
    found = [path for path in (folder / CHECKPOINTS).glob("checkpoint-*") if path.name.split("-")[1].isdigit()]
    for checkpoint in sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True):
        damage = damage_of(checkpoint)
        if damage is None:
            print(f"{folder}: goes on from {checkpoint.name}.", flush=True)
            return str(checkpoint)
        print(f"{checkpoint} is not used: {damage}.", flush=True)
    if found:
        print(f"{folder}: no whole checkpoint; training starts from the beginning.", flush=True)
    return None


def check_resume_flag(asked: str | None, num_runs: int) -> None:
    """Checks --resume_from_checkpoint before training.

    Raises:
        ValueError: It is `false`, or a path although several runs are asked for, or no whole checkpoint.
    """
    if asked is None:
        return
    if asked.lower() == "true":
        print("--resume_from_checkpoint true: not needed; the same command goes on by itself.", flush=True)
        return
    if asked.lower() == "false":
        raise ValueError(
            "--resume_from_checkpoint: false; an unfinished run always goes on. To start anew, use another "
            "--output_dir, or delete the run with --overwrite true."
        )
    if num_runs > 1:
        raise ValueError(
            f"--resume_from_checkpoint: {asked} is one checkpoint, but {num_runs} runs are asked for. Drop the flag: "
            "the same command goes on by itself."
        )
    checkpoint_to_continue(Path(asked).parent, asked)


def _damage_of_files(checkpoint: Path) -> str | None:
    if not checkpoint.is_dir():
        return f"{checkpoint.name} is not there"
    if not (checkpoint / SEAL).is_file():
        return f"{SEAL} is missing, so it was not written to its end"
    try:
        listed = read_json(checkpoint / SEAL)
    except ValueError:
        return f"{SEAL} is damaged"
    if STATE not in listed:
        return f"{SEAL} is damaged"
    for name, digest in listed.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if _sha256(checkpoint / name) != digest:
            return f"{name} is damaged"
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
