"""`ser predict --ray`: a corpus on many cores, GPUs or machines, by Ray Data.

CPU tasks read and decode, a pool of actors scores, and the answers come back to the command, which alone writes. Ray
starts dead workers again and repeats what they were given; an answer that has arrived is never asked for twice.
"""

import functools
import logging
import os
import pickle  # of what our own processes sent, as Ray itself does  # nosec B403
import secrets
import signal
import socket
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ser.freed_memory import keep_freed_memory
from ser.inference.scoring import decoded_buffers, predict_timelines, reason, scored_recordings
from ser.inference.shards import weights_hash

if TYPE_CHECKING:
    import pyarrow as pa

    from ser.inference.predict import Request

LOCAL = "local"
# Files in a block: a dead worker repeats this many. The second number is for files whose workers died.
_FILES_IN_BLOCK = (256, 1)
# How often Ray gives a block to another worker when one dies.
_RETRIES = 3
# Decoding takes little: an actor on the CPU and the tasks that feed it share a core.
_DECODER_CPUS = 0.25
_ONE_CELL: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}


@contextmanager
def cluster(address: str, actors: int | None, debug: bool = False) -> Iterator[None]:
    """Joins a Ray cluster, or makes one on this machine that ends with the block.

    A cluster of our own listens on 127.0.0.1 only, has neither dashboard nor telemetry, asks its processes for a token
    that is drawn anew, and keeps its files in a temporary folder.

    Args:
        address: `local`, `auto`, or the address of a cluster, such as `10.0.0.5:6379`.
        actors: Number of scoring actors, as the user gave it; a cluster of our own has a core for each.
        debug: Whether to print what Ray and its workers log.

    Raises:
        ImportError: Ray is not installed.
        OSError: There is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "warning" if debug else "fatal")
    ray = _ray(address)
    quiet = {"logging_level": logging.INFO if debug else logging.ERROR, "log_to_driver": debug}
    with tempfile.TemporaryDirectory(prefix="ser-ray-", ignore_cleanup_errors=True) as folder:
        if address == LOCAL:
            cores = max(actors or 1, os.cpu_count() or 1)
            ray.init(LOCAL, num_cpus=cores, include_dashboard=False, _temp_dir=folder, **quiet)
        else:
            _check_address(address)
            ray.init(address, **quiet)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # Ray's own ends without an order
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # those whose workers died; an error of the code comes back as a _WorkerError
        context.max_consecutive_actor_init_deaths = _RETRIES
        logging.getLogger("ray.data").setLevel(logging.INFO if debug else logging.CRITICAL)
        try:
            yield
        finally:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Refuses an address where nothing listens: Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "//" not in address:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise OSError(
                f"--ray: {address} does not answer ({error.strerror or error}); start a cluster there."
            ) from None


def _ray(address: str) -> Any:
    """Imports Ray, which reads its environment while it is imported."""
    if address == LOCAL:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # what makes Ray use the loopback address on Linux too
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
    try:
        import ray
        import ray.data
    except ImportError:
        raise ImportError("--ray needs Ray: pip install 'ser[ray]'.") from None
    from ray.util.annotations import RayDeprecationWarning

    # The limit of retries, which ends with Ray 2.64, the first version that `ser[ray]` does not take.
    warnings.simplefilter("ignore", RayDeprecationWarning)
    return ray


def answers(request: "Request", files: list[str], pipe: Any, load: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Answers a request on the cluster that it names.

    Args:
        files: The recordings.
        pipe: The pipeline in this process; its weights are not used.
        load: Makes the pipeline in an actor: `load(device, threads)`.

    Yields:
        In any order, what `predict` and `predict_timelines` yield for the files. A file whose worker dies each time
        becomes an error.

    Raises:
        ImportError, OSError, ValueError: As [`cluster`]; or no actor can be started.
        RuntimeError: The code failed in a worker.
    """
    left = dict.fromkeys(files)
    if left:
        with cluster(request.ray or LOCAL, request.actors, request.debug):
            for files_in_block in _FILES_IN_BLOCK:
                for answer in _streamed(request, list(left), pipe, load, files_in_block):
                    # A task that is repeated may cut its files into other blocks than before, and repeat an answer.
                    if answer["file"] in left:
                        del left[answer["file"]]
                        yield answer
    for file in left:
        yield {"file": file, "error": "the process that reads it dies each time; convert the file or leave it out."}


def _streamed(
    request: "Request", files: list[str], pipe: Any, load: Callable[..., Any], files_in_block: int
) -> Iterator[dict[str, Any]]:
    if not files:
        return
    import ray

    actors, on_actor = _pool(request)
    threads = None if "num_gpus" in on_actor else 1
    where = "a cluster of this machine" if request.ray == LOCAL else f"the cluster at {request.ray}"
    print(f"Ray: {len(files)} files, {actors} actors on {where}", file=sys.stderr, flush=True)
    size = min(files_in_block, max(1, len(files) // (4 * actors)))
    dataset: Any = ray.data.from_arrow([_cell(files[start : start + size]) for start in range(0, len(files), size)])
    if not request.is_timeline:  # a timeline is made while its recording is read
        reader = {"config": pipe.model.config, "extractor": pipe.feature_extractor, "megabytes": request.max_megabytes}
        dataset = dataset.map_batches(
            _decode, fn_kwargs=reader, num_cpus=_DECODER_CPUS, max_retries=_RETRIES, **_ONE_CELL
        )
    dataset = dataset.map_batches(
        _Scorer,
        fn_constructor_args=(request, functools.partial(load, request.device, threads), weights_hash(pipe.model)),
        compute=ray.data.ActorPoolStrategy(size=actors),
        max_task_retries=_RETRIES,
        **on_actor,
        **_ONE_CELL,
    )
    # Fetching ahead would hold each block back until the next one is scored, and a kill would lose both.
    for table in dataset.iter_batches(prefetch_batches=0, **_ONE_CELL):
        found = _content(table)
        if isinstance(found, Exception):
            raise found
        yield from found


def _pool(request: "Request") -> tuple[int, dict[str, float]]:
    """Number of actors, and what Ray reserves for each: a GPU, or most of a core."""
    import ray

    found = ray.cluster_resources()
    device = request.device or ("cuda" if found.get("GPU") else "cpu")
    if device.startswith("cuda"):
        if request.ray == LOCAL and not found.get("GPU"):
            raise ValueError(f"--device: {device}, but this machine has no GPU; leave it out, or name a cluster.")
        return request.actors or max(1, int(found.get("GPU", 0))), {"num_gpus": 1}
    return request.actors or max(1, int(found.get("CPU", 1))), {"num_cpus": 1 - _DECODER_CPUS}


class _WorkerError(RuntimeError):
    """What went wrong in a worker, with its traceback; not a fault of a recording."""


def _cell(content: Any) -> "pa.Table":
    """A table of one cell. Ray neither joins nor splits what is in a cell, so a batch stays a batch."""
    import pyarrow as pa

    return pa.table({"cell": [pickle.dumps(content)]})


def _content(table: "pa.Table") -> Any:
    return pickle.loads(table["cell"][0].as_buffer())  # our own process made it  # nosec B301


def _decode(table: "pa.Table", config: Any, extractor: Any, megabytes: float) -> Iterator["pa.Table"]:
    """Reads and decodes a list of recordings, into lists of `Decoded`."""
    try:
        for buffer in decoded_buffers(_reader(config, extractor), _content(table), megabytes):
            yield _cell([(file, _portable(outcome, file)) for file, outcome in buffer])
    except Exception:  # Ray would leave out the block
        yield _cell(_WorkerError(traceback.format_exc()))


def _portable(outcome: Any, file: str) -> Any:
    """An outcome that can be pickled: the error of a library may not, its words can."""
    return ValueError(reason(outcome, file)) if isinstance(outcome, Exception) else outcome


def _reader(config: Any, extractor: Any) -> Any:
    """A pipeline without weights, which reads recordings as the whole one does."""
    import torch

    from ser_model import SERPipeline

    model = SimpleNamespace(config=config, device=torch.device("cpu"), dtype=torch.float32)
    return SERPipeline(model=model, feature_extractor=extractor, task="audio-classification", device="cpu")


class _Scorer:
    """Scores lists of `Decoded`, or makes the timelines of a list of recordings, with the code of one process."""

    def __init__(self, request: "Request", load: Callable[[], Any], weights: str):
        keep_freed_memory()
        self.request, self.problem = request, None
        try:
            self.pipe = load()
            if (found := weights_hash(self.pipe.model)) != weights:
                raise ValueError(f"--model: its weights have the hash {found}, those of the command {weights}.")
        except (ImportError, OSError, ValueError) as error:  # an error here would make Ray start the actor again
            self.problem = ValueError(f"--ray: an actor on {socket.gethostname()} has no model. {error}")

    def __call__(self, table: "pa.Table") -> "pa.Table":
        content = _content(table)
        if isinstance(content, _WorkerError):
            return table
        if self.problem is not None:
            return _cell(self.problem)
        try:
            return _cell(list(self._answers(content)))
        except Exception:
            return _cell(_WorkerError(traceback.format_exc()))

    def _answers(self, content: list[Any]) -> Iterator[dict[str, Any]]:
        megabytes = self.request.max_megabytes
        if self.request.is_timeline:
            return predict_timelines(self.pipe, content, megabytes, **self.request.cutting)
        return scored_recordings(self.pipe, content, self.request.batch_seconds, megabytes)
