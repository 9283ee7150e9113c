"""The gradient of eight clips, by a model that FSDP has cut over two processes: `sharded_step.py OUT`.

Started by `accelerate launch` with the YAML of FSDP. Accelerator itself leaves FSDP out on a CPU, so its function that
prepares a model is called directly, with the options that the YAML has set.
"""

import os
import sys
from types import SimpleNamespace

import torch
import torch.distributed as dist
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils import fsdp2_prepare_model
from fakes.one_step import CLASSES, corpus, small_model
from fakes.tiny import feature_extractor
from torch.distributed.fsdp import FSDPModule

from ser.data.batching import Clips, Collator

SECONDS = [0.5, 1.3, 0.2, 2.0, 0.9, 0.3, 1.1, 0.7]


def gradient_of(model: torch.nn.Module, rows: range) -> None:
    """Runs a model forward and backward on these clips."""
    clips = Clips(corpus(SECONDS, CLASSES), CLASSES)
    model(**Collator(feature_extractor())([clips[row] for row in rows])).loss.backward()


def main(out: str) -> None:
    dist.init_process_group("gloo")
    plugin = FullyShardedDataParallelPlugin()
    state = SimpleNamespace(fsdp_plugin=plugin)
    accelerator = SimpleNamespace(state=state, mixed_precision="no", is_main_process=dist.get_rank() == 0)
    accelerator.device = torch.device("cpu")
    model = fsdp2_prepare_model(accelerator, small_model())
    cut = [name for name, module in model.named_modules() if isinstance(module, FSDPModule)]
    gradient_of(model, range(4 * dist.get_rank(), 4 * dist.get_rank() + 4))
    grads = {name: p.grad.full_tensor() for name, p in model.named_parameters() if p.grad is not None}
    shares = {name: p.to_local().numel() / p.numel() for name, p in model.named_parameters()}
    if dist.get_rank() == 0:
        torch.save({"gradients": grads, "cut": cut, "shares": shares}, out)
    dist.barrier()
    # torch keeps the group in caches of its own for ever, so gloo's workers still live when Python ends, and one that
    # frees its last tensor then aborts the process. Nothing is left to be done, so Python does not get to its end.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
