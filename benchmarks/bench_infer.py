"""How many seconds of audio are classified in a second: this project against transformers' own pipeline.

    python benchmarks/bench_infer.py --quick
    python benchmarks/bench_infer.py --json infer.json

HuBERT-base in size, random weights, clips of ShEMO's lengths as WAV files, float32. Rows: `ours`, what `ser predict`
does with a list of files; `pipeline_batch_1` and `pipeline_batch_8`, transformers' pipeline with its own classifier on
arrays that are read already; `ours_int8`, the ONNX file of `ser export --int8`. All rows get the same 96 clips, in one
random order. Padding is not counted as audio. Latency is that of one clip of four seconds.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yardstick
from bench_train import LABELS, stock_model


def lengths_of_clips(quick: bool = False) -> list[float]:
    """Lengths of the clips, in seconds."""
    return yardstick.typical_lengths(16 if quick else 96, yardstick.LONGEST_SECONDS)


def our_pipeline(device: str | None = None) -> Any:
    from transformers import HubertConfig, Wav2Vec2FeatureExtractor

    from ser_model import SERConfig, SERForAudioClassification, SERPipeline

    model = SERForAudioClassification(SERConfig(backbone_config=HubertConfig(), num_labels=len(LABELS))).eval()
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
    return SERPipeline(model=model, feature_extractor=extractor, task="audio-classification", device=device)


def stock_pipeline(device: str | None = None) -> Any:
    from transformers import AudioClassificationPipeline, Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
    return AudioClassificationPipeline(model=stock_model().eval(), feature_extractor=extractor, device=device)


def files_in(folder: str, lengths: list[float]) -> list[str]:
    """Clips of these lengths as WAV files."""
    import soundfile

    paths = [str(Path(folder) / f"{index}.wav") for index in range(len(lengths))]
    for index, path in enumerate(paths):
        soundfile.write(path, yardstick.noise(lengths[index], index), 16_000)
    return paths


def timed(classify: Callable[[list], Any], clips: list, one: Any, quick: bool) -> dict:
    """Classifies all clips, then one clip again and again."""
    classify(clips[:8])
    start = time.perf_counter()
    classify(clips)
    took = time.perf_counter() - start
    waits = []
    for _ in range(5 if quick else 40):
        start = time.perf_counter()
        classify([one])
        waits.append(1000 * (time.perf_counter() - start))
    p50, p99 = np.percentile(waits, (50, 99))
    return {"audio_seconds_a_second": sum(lengths_of_clips(quick)) / took, "p50_ms": p50, "p99_ms": p99}


def ours(quick: bool, int8: bool = False) -> dict[str, float]:
    import soundfile

    from ser.freed_memory import keep_freed_memory
    from ser.inference.onnx_export import export_onnx
    from ser.inference.onnx_model import load_onnx_pipeline
    from ser.inference.scoring import predict
    from ser_model import SERConfig, SERPipeline, min_samples

    keep_freed_memory()
    pipe = our_pipeline()
    with tempfile.TemporaryDirectory() as folder:
        if int8:
            shortest = min_samples(pipe.model.config.backbone_config)
            file = export_onnx(pipe.model, pipe.feature_extractor, Path(folder) / "model.onnx", shortest, int8=True)
            pipe = load_onnx_pipeline(file, SERConfig, SERPipeline)
        paths = files_in(folder, lengths_of_clips(quick))
        one = str(Path(folder) / "one.wav")
        soundfile.write(one, yardstick.noise(4, 0), 16_000)
        return timed(lambda files: list(predict(pipe, files)), paths, one, quick)


def stock(quick: bool, batch_size: int) -> dict[str, float]:
    pipe = stock_pipeline()
    waves = [yardstick.noise(s, k) for k, s in enumerate(lengths_of_clips(quick))]

    def classify(chosen: list) -> Any:
        return pipe(chosen, batch_size=batch_size)

    return timed(classify, waves, yardstick.noise(4, 0), quick)


def main() -> None:
    args = yardstick.arguments_of(__doc__)
    rows = {
        "ours": ours,
        "pipeline_batch_1": partial(stock, batch_size=1),
        "pipeline_batch_8": partial(stock, batch_size=8),
        "ours_int8": partial(ours, int8=True),
    }
    found = yardstick.run(__file__, args, rows)
    if not found:
        return
    import torch

    pipe = our_pipeline()
    with torch.no_grad():
        work = yardstick.gflop_per_second(lambda wave: pipe.model(wave), lengths_of_clips(args.quick))
    rate, key = found.pop(yardstick.LIMIT)["gflops"], "audio_seconds_a_second"
    figures = {row: own[key] for row, own in found.items()} | {"latency": found}
    figures |= {"matrix_gflops": rate, "gflop_per_audio_second": work}
    yardstick.show(found, [key, "p50_ms", "p99_ms", "peak_gb"], args.json, figures)
    yardstick.show_limit(found, work, rate)


if __name__ == "__main__":
    main()
