"""What the launcher set (torchrun, accelerate): checked against the flags, and written down where it took effect."""

import os
from typing import Any


def settle_launch(args: Any) -> None:
    """Makes `bf16`, `fp16` and `num_processes` of the training arguments say what takes effect.

    Raises:
        ValueError: Launcher and flags contradict each other, or what they ask for is not done on this device.
    """
    _check_processes(args)
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    asked = "fp16" if args.fp16 else "bf16" if args.bf16 else "no"
    if "no" not in (launched, asked) and launched != asked:
        raise ValueError(f"--{asked}: true, but the launcher was given --mixed_precision {launched}. Drop one.")
    precision = asked if asked != "no" else launched
    if precision == "fp16" and args.device.type == "cpu":
        raise ValueError("--fp16: fp16 is not done on a CPU; use --bf16 true, or leave it out.")
    if precision not in ("no", "fp16", "bf16"):
        raise ValueError(f"--mixed_precision {precision} of the launcher is not supported; use no, fp16 or bf16.")
    args.fp16, args.bf16 = precision == "fp16", precision == "bf16"
    steps = int(os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", 1))
    if steps > 1 and steps != args.gradient_accumulation_steps:
        raise ValueError(
            f"--gradient_accumulation_steps: {args.gradient_accumulation_steps}, but the launcher was given {steps}, "
            f"which has no effect. Give --gradient_accumulation_steps {steps} to run_ser.py."
        )


def _check_processes(args: Any) -> None:
    """Compares the number of processes that were started with the number that train together."""
    started, together = int(os.environ.get("WORLD_SIZE", 1)), args.world_size
    if started > 1 and together == 1:
        raise ValueError(
            f"--use_cpu: {started} processes were started, but each would train alone, because there is no GPU for "
            "them. Add --use_cpu true to train together on the CPU, or start one process."
        )
    if args.num_processes not in (None, together):
        raise ValueError(
            f"--num_processes: {args.num_processes}, but {together} train together. The launcher decides the number: "
            f"torchrun --nproc_per_node {args.num_processes} run_ser.py ..."
        )
    args.num_processes = together if together > 1 else None
