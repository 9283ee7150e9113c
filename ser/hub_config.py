"""Asks the Hub for the configuration of a model, before anything slow, and says in one line why it cannot be had."""

import os
from typing import Any

from ser.model_errors import first_line

_SECONDS = 10.0  # that a server may be silent


def use_cache_without_network(name: str) -> None:
    """Asks once whether the Hub can be reached; if not, this process works from the cache of the Hub from now on.

    huggingface_hub would ask six times for every file of a model, over 23 seconds, even if the cache holds it.

    Args:
        name: A repository; whether it exists does not matter here.
    """
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import httpx

    if constants.is_offline_mode():
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_SECONDS)
    except (httpx.NetworkError, httpx.TimeoutException):
        constants.HF_HUB_OFFLINE = True
    except (errors.HfHubHTTPError, errors.HFValidationError, httpx.HTTPError, OSError, ValueError):
        pass  # there is an answer; what is wrong with it is said where the file is asked for


def download_config(name: str, flag: str, **hub: Any) -> str:
    """Downloads `config.json` of a repository, or takes it from the cache.

    Args:
        name: The repository.
        flag: The flag that names it, for errors.
        hub: `revision` and `token`.

    Returns:
        The path of the file.

    Raises:
        ValueError: There is no network, no such repository, no permission to read it, or no such file in it.
    """
    from huggingface_hub import errors, hf_hub_download
    from huggingface_hub.utils import httpx

    use_cache_without_network(name)
    where = os.environ.get("HF_ENDPOINT", "the Hub")
    try:
        return hf_hub_download(name, "config.json", **hub)
    except errors.GatedRepoError:
        problem = f"{name} asks for its terms to be accepted, on its page, by the account of your token."
    except errors.RepositoryNotFoundError:
        problem = (
            f"there is no {name} on {where} that your token may read, and no such folder here. "
            "Check the name; for a private repository, check the token (hf auth login)."
        )
    except errors.RevisionNotFoundError:
        problem = f"{name} has no revision {hub.get('revision')}."
    except errors.LocalEntryNotFoundError:
        problem = f"{name} is neither a folder nor downloaded yet, and there is no network to {where}; give a folder."
    except errors.EntryNotFoundError:
        problem = f"{name} is no model: the repository holds no config.json."
    except errors.HFValidationError:
        problem = f"{name!r} is neither a folder nor the name of a repository (user/name)."
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        problem = f"{where} answers {status} for {name}."
        if status in (401, 403):
            problem = f"{where} refuses the token ({status}); log in again (hf auth login) or unset HF_TOKEN."
    except httpx.HTTPError as error:
        problem = f"there is no network to {where} ({first_line(error)}); give a folder."
    raise ValueError(f"{flag}: {problem}")
