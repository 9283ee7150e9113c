"""Pushes to the Hub: checks first, one commit, and every failure in words."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ser.model_errors import first_line
from ser.publish import pre_push_checks
from ser.publish.staging import check_code, check_run, stage, staged_files
from ser.run_folder import RESULTS, read_results

# Files on the Hub that are kept, although this project did not write them.
_KEPT = re.compile(r"\.git[a-z]+|(LICEN[CS]E|NOTICE|CITATION)([.-].*)?", re.IGNORECASE)
# A file or folder that every repository of this project holds, by type.
_OURS = {"model": RESULTS, "dataset": "data/", "space": "app.py"}


def push_run(
    run_dir: str | Path,
    repo_id: str,
    clip_audio: pre_push_checks.ClipAudio,
    private: bool = False,
    dry_run: bool = False,
    token: str | None = None,
) -> str | None:
    """Checks a run and puts it on the Hub, in one commit; prints what it does.

    Args:
        run_dir: The folder of one finished run.
        repo_id: `user/name`; made if it is not there.
        clip_audio: Gives the WAV bytes of a test clip by its id; see `pre_push_checks.audio_of`.
        private: Whether a new repository is private.
        dry_run: Stops before anything leaves the machine.
        token: That of the Hub; by default the one of `hf auth login` or HF_TOKEN.

    Returns:
        The address of the repository; None for a dry run.

    Raises:
        ValueError: A check failed, or `repo_id` is not a repository name; the message gives the reason.
        OSError: The Hub refused or could not be reached.
    """
    run_dir = Path(run_dir)
    check_before_push(run_dir, repo_id)
    if not dry_run:
        _check_token(token)
    with tempfile.TemporaryDirectory() as folder:
        files = stage(run_dir, Path(folder), repo_id)
        pre_push_checks.check(Path(folder), run_dir, clip_audio, token or stored_token())
        size = sum((Path(folder) / name).stat().st_size for name in files)
        print(f"checks passed; {len(files)} files, {size / 1e6:.1f} MB: {', '.join(files)}", flush=True)
        if read_results(run_dir).get("config", {}).get("corpus") in ("manifest", "folder"):
            print("note: results, report and splits contain the clip and speaker names of your files.", flush=True)
        if dry_run:
            print("dry run: nothing was pushed.")
            return None
        address = commit_folder(Path(folder), repo_id, "model", private, token)
    print(f"pushed to {address}")
    return address


def check_before_push(run_dir: str | Path, repo_id: str) -> None:
    """Refuses a wrong repository name or an unfinished run before anything slow is done.

    Raises:
        ValueError, FileNotFoundError: The name is wrong, the run is not finished, or its code is not known.
    """
    check_repo_id(repo_id)
    check_run(Path(run_dir))
    check_code(Path(run_dir))


def commit_folder(folder: Path, repo_id: str, repo_type: str, private: bool = False, token: str | None = None) -> str:
    """Replaces the content of a repository by a folder, in one commit: others see the old state or the new one.

    Files of the repository that the folder lacks are deleted in that commit, except licences and git's own.

    Returns:
        The address of the repository.

    Raises:
        ValueError: The repository holds something else, or is public where a private one was asked for.
        OSError: The Hub refused or could not be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    check_repo_id(repo_id)
    _check_token(token)
    api = HfApi(token=token)
    with in_words(repo_id):
        kind: dict[str, Any] = {"repo_type": repo_type, "space_sdk": "gradio" if repo_type == "space" else None}
        address = api.create_repo(repo_id, private=private or None, exist_ok=True, **kind)
        info = api.repo_info(repo_id, repo_type=repo_type)
        _check_repository(info, repo_id, repo_type, private)
        names = staged_files(folder)
        there = {file.rfilename for file in info.siblings or ()}
        stale = sorted(name for name in there - set(names) if not _KEPT.fullmatch(name))
        operations: list[Any] = [CommitOperationAdd(name, folder / name) for name in names]
        operations += [CommitOperationDelete(name, is_folder=False) for name in stale]
        api.create_commit(
            repo_id, operations, commit_message="Push from ser", repo_type=repo_type, parent_commit=info.sha
        )
    return str(address)


def check_repo_id(repo_id: str) -> None:
    """Refuses what is not a repository name on the Hub.

    Raises:
        ValueError: It is not user/name, or has characters that the Hub does not allow.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
        if repo_id.count("/") != 1:
            raise HFValidationError("it has no user")
    except HFValidationError:
        raise ValueError(
            f"{repo_id!r} is not a repository name; expected user/name, made of letters, digits, '-', '_' and '.' "
            "(96 at most, no '--' or '..')."
        ) from None


def stored_token() -> str | None:
    """The token of `hf auth login` or HF_TOKEN."""
    from huggingface_hub import get_token

    return get_token()


def _check_token(token: str | None) -> None:
    if token is None and stored_token() is None:
        raise PermissionError(f"There is no token for {_host()}. {_how_to_get_a_token()}")


def _check_repository(info: Any, repo_id: str, repo_type: str, private: bool) -> None:
    """Refuses to overwrite a repository of something else, and to make private data public."""
    names = [file.rfilename for file in info.siblings or ()]
    others = [name for name in names if not _KEPT.fullmatch(name) and name != "README.md"]
    if others and not any(name.startswith(_OURS[repo_type]) for name in names):
        raise ValueError(
            f"{repo_id} holds {len(others)} files of something else, such as {others[0]}; nothing was pushed. Choose "
            "another name, or delete that repository on the Hub."
        )
    if private and not info.private:
        raise ValueError(
            f"{repo_id} already exists and is public; --private does not change that. Make it private on its page, or "
            "choose another name. Nothing was pushed."
        )


def check_push(args: Any, runs: int) -> None:
    """Refuses a push that could not be made, before hours of training.

    Args:
        args: The arguments of training.
        runs: How many models they train.

    Raises:
        ValueError: There is no repository or no token, or nobody said which of several models to push.
    """
    if args.hub_model_id is None:
        raise ValueError("--push_to_hub: give the repository with --hub_model_id user/name.")
    check_repo_id(args.hub_model_id)
    if runs > 1 and not args.final_fit:
        raise ValueError(
            "--push_to_hub: several runs are asked for. Push the one you choose (ser push RUN user/name), or one model "
            "of all clips (--final_fit true)."
        )
    if not (args.hub_token or stored_token()):
        raise ValueError("--push_to_hub: there is no token; run hf auth login, set HF_TOKEN, or give --hub_token.")


@contextmanager
def in_words(repo_id: str) -> Iterator[None]:
    """Turns an error of huggingface_hub into one sentence that says what to do; `--debug` shows the cause."""
    import json

    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # hides its line for each retry; the error below says what happened
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise ConnectionError("HF_HUB_OFFLINE=1 forbids the network; unset it to push. Nothing was pushed.") from error
    except (HTTPError, RuntimeError, json.JSONDecodeError) as error:
        # An upload that fails in a thread is the cause of a RuntimeError.
        cause = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error
        if isinstance(cause, HfHubHTTPError):
            raise _refused(cause, repo_id) from error
        raise ConnectionError(
            f"The connection to {_host()} failed ({first_line(cause)}). {repo_id} is as it was, or new and whole; "
            "check the network and run the same command again."
        ) from error
    except (ValueError, OSError):
        raise
    except Exception as error:  # the storage client of huggingface_hub has its own classes
        raise ConnectionError(f"The upload to {_host()} failed ({first_line(error)}). Nothing was pushed.") from error
    finally:
        logging.set_verbosity(level)


def _refused(error: Any, repo_id: str) -> OSError:
    """The error for a refusal by the Hub."""
    status, host = error.response.status_code, _host()
    said = f": {error.server_message}" if error.server_message else ""
    if status == 401:
        return PermissionError(f"{host} does not accept the token (401). {_how_to_get_a_token()} Nothing was pushed.")
    if status == 403:
        return PermissionError(
            f"The token may not write to {repo_id} (403{said}). Use one with write access, of an account that may "
            f"write to {repo_id.split('/')[0]}. Nothing was pushed."
        )
    if status == 404:
        return FileNotFoundError(f"{host} has no {repo_id} that the token may see (404). Nothing was pushed.")
    if status in (409, 412):
        return OSError(
            f"{repo_id} was changed by somebody else during the push ({status}{said}). Run the same command again."
        )
    if status == 429:
        return OSError(
            f"{host} refuses further requests for now (429). Wait some minutes and run the same command again."
        )
    if status >= 500:
        return OSError(f"{host} has a server error ({status}). Nothing was pushed; run the same command later.")
    return OSError(f"{host} refused the push to {repo_id} ({status}{said or f': {first_line(error)}'}).")


def _how_to_get_a_token() -> str:
    return f"Make one with write access at {_host()}/settings/tokens and set it with `hf auth login` or HF_TOKEN."


def _host() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
