"""The rows of a GPU, in about ten minutes: training and inference of a model of HuBERT-base's size.

    python benchmarks/bench_gpu.py
    python benchmarks/bench_gpu.py --device cpu --seconds 5   # shows that the script runs

Random weights, clips of ShEMO's lengths (3,000 to train, up to 16 s; 400 again and again to classify, up to 33 s).
Rows: `train_ours` in bfloat16, with the default batches and eight workers that read; `train_ours_compiled`, the same
with --torch_compile true; `train_trainer_random_8`, transformers' own classifier under its `Trainer`, random batches of
8 in bfloat16; `infer_ours_float32`, what `ser predict` does with files; `infer_ours_bf16` and
`infer_ours_bf16_compiled`, the same with a model put into bfloat16; `infer_pipeline_batch_8`, transformers' pipeline.
Padding is not counted as audio. The last lines compare training with the rate of the device in bfloat16, and work out
20 epochs.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bench_infer
import bench_train
import torch
import yardstick

from ser.training.compiled import compile_layers

WARM_STEPS = 3  # of cuDNN's choice of kernels and the allocator
WORKERS = 8
CLIPS = 400  # to classify


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def trained(trainer: Any, device: str, seconds: float) -> float:
    """Seconds of real audio a second over so many seconds of training."""
    from transformers import TrainerCallback

    samples: list[torch.Tensor] = []  # on the device: to read one would wait for it
    loss_of, start = trainer.compute_loss, [0.0]

    def counted(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        samples.append(inputs["attention_mask"].sum())
        return loss_of(model, inputs, *args, **kwargs)

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == WARM_STEPS:
                synchronize(device)
                start[0] = time.perf_counter()
            control.should_training_stop = bool(start[0]) and time.perf_counter() - start[0] > seconds

    trainer.compute_loss = counted
    trainer.add_callback(Clock())
    trainer.train()
    synchronize(device)
    took = time.perf_counter() - start[0]
    return float(sum(int(count) for count in samples[WARM_STEPS:])) / 16_000 / took


def train_ours(device: str, seconds: float, compiled: bool = False) -> float:
    flags = {"use_cpu": device == "cpu", "bf16": True, "dataloader_num_workers": WORKERS if device == "cuda" else 0}
    with tempfile.TemporaryDirectory() as folder:
        trainer, _ = bench_train.our_trainer(folder, num_train_epochs=1000, **flags)
        if compiled:
            compile_layers(trainer.model)
        return trained(trainer, device, seconds)


def train_trainer_random_8(device: str, seconds: float) -> float:
    flags = {"use_cpu": device == "cpu", "bf16": True, "dataloader_num_workers": WORKERS if device == "cuda" else 0}
    with tempfile.TemporaryDirectory() as folder:
        lengths = yardstick.typical_lengths(bench_train.CLIPS, bench_train.LONGEST_SECONDS)
        trainer, _ = bench_train.stock_trainer(folder, lengths, num_train_epochs=1000, **flags)
        return trained(trainer, device, seconds)


def classified(classify: Callable[[list], Any], clips: list, lengths: list[float], seconds: float) -> float:
    """Seconds of audio a second, over the clips as often as takes about so long."""
    classify(clips[:8])
    start = time.perf_counter()
    classify(clips[8:40])
    rate = sum(lengths[8:40]) / (time.perf_counter() - start)
    times = seconds * rate / sum(lengths)
    count = len(clips) if times > 1 else max(8, int(times * len(clips)))
    many, total = clips[:count] * math.ceil(times), sum(lengths[:count]) * math.ceil(times)
    start = time.perf_counter()
    classify(many)
    return total / (time.perf_counter() - start)


def infer_ours(device: str, seconds: float, dtype: torch.dtype, compiled: bool = False) -> float:
    from ser.inference.scoring import predict

    pipe = bench_infer.our_pipeline(device)
    pipe.model.to(dtype)
    if compiled:
        compile_layers(pipe.model)
    with tempfile.TemporaryDirectory() as folder:
        lengths = yardstick.typical_lengths(CLIPS, yardstick.LONGEST_SECONDS)
        paths = bench_infer.files_in(folder, lengths)
        return classified(lambda files: list(predict(pipe, files)), paths, lengths, seconds)


def infer_pipeline_batch_8(device: str, seconds: float) -> float:
    pipe = bench_infer.stock_pipeline(device)
    lengths = yardstick.typical_lengths(CLIPS, yardstick.LONGEST_SECONDS)
    waves = [yardstick.noise(length, seed) for seed, length in enumerate(lengths)]
    return classified(lambda chosen: pipe(chosen, batch_size=8), waves, lengths, seconds)


@contextmanager
def peak_memory(device: str, figures: dict[str, float]) -> Iterator[None]:
    """Adds the most memory of the GPU that tensors took within the block, in GB."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield
    if device == "cuda":
        figures["gpu_gb"] = torch.cuda.max_memory_allocated() / 1e9


def matrix_tflops(device: str) -> float:
    """What the device does in products of large bfloat16 matrices, TFLOP/s."""
    size = 8192 if device == "cuda" else 1024
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    times = 50 if device == "cuda" else 3
    best = 0.0
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(times):
            one @ one
        synchronize(device)
        best = max(best, times * 2 * size**3 / (time.perf_counter() - start) / 1e12)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--seconds", type=float, default=50, help="of each row")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu shows only that the script runs.")
    rows: dict[str, Callable[[str, float], float]] = {
        "train_ours": train_ours,
        "train_ours_compiled": lambda device, seconds: train_ours(device, seconds, compiled=True),
        "train_trainer_random_8": train_trainer_random_8,
        "infer_ours_float32": lambda device, seconds: infer_ours(device, seconds, torch.float32),
        "infer_ours_bf16": lambda device, seconds: infer_ours(device, seconds, torch.bfloat16),
        "infer_ours_bf16_compiled": lambda device, seconds: infer_ours(device, seconds, torch.bfloat16, compiled=True),
        "infer_pipeline_batch_8": infer_pipeline_batch_8,
    }
    found: dict[str, dict[str, float]] = {}
    for row, measure in rows.items():
        print(row, flush=True)
        found[row] = {}
        with peak_memory(args.device, found[row]):
            found[row]["audio_seconds_a_second"] = measure(args.device, args.seconds)
    rate, work = matrix_tflops(args.device), bench_train.training_gflop()
    trained_rate = found["train_ours"]["audio_seconds_a_second"]
    audio = sum(yardstick.shemo_lengths(bench_train.CLIPS, bench_train.LONGEST_SECONDS))
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    figures = {"rows": found, "matrix_tflops": rate, "gflop_per_audio_second": work, "device": name}
    yardstick.show(found, ["audio_seconds_a_second", "gpu_gb"], None, {})
    share, epochs_s = trained_rate * work / rate / 1000, 20 * audio / trained_rate
    print(f"\n{name}: {rate:.3g} TFLOP/s in products of bfloat16 matrices. Training does {work:.1f} GFLOP for a second")
    print(f"of audio, {share:.0%} of that rate; 20 epochs take {epochs_s:.0f} s.")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
