"""How many seconds of audio are classified in a second: this project against transformers' own pipeline.

    python benchmarks/bench_infer.py --quick
    python benchmarks/bench_infer.py --json infer.json

HuBERT-base in size, random weights, clips of ShEMO's lengths as WAV files, float32. Rows: `ours`, what `ser predict`
does with a list of files; `pipeline_batch_1` and `pipeline_batch_8`, transformers' pipeline with its own classifier on
arrays that are read already; `ours_int8`, the ONNX file of `ser export --int8`. Padding is not counted as audio.
Latency is that of one clip of four seconds.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yardstick
from bench_train import LABELS, stock_model

CLIPS = 400


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


def files_in(folder: str, count: int) -> tuple[list[str], list[float]]:
    """Clips as WAV files, in no order of length."""
    import soundfile

    lengths = yardstick.shemo_lengths(count, yardstick.LONGEST_SECONDS)
    paths = [str(Path(folder) / f"{index}.wav") for index in range(count)]
    for index, path in enumerate(paths):
        soundfile.write(path, yardstick.noise(lengths[index], index), 16_000)
    return paths, lengths


def timed(classify: Callable[[list], Any], clips: list, lengths: list[float], one: Any, seconds: float) -> dict:
    """Classifies as many clips as take about so long, then one clip again and again."""
    classify(clips[:2])
    start = time.perf_counter()
    classify(clips[2:6])
    rate = sum(lengths[2:6]) / (time.perf_counter() - start)
    count = min(len(clips), max(8, int(seconds * rate / np.mean(lengths))))
    start = time.perf_counter()
    classify(clips[:count])
    took = time.perf_counter() - start
    waits = []
    for _ in range(5 if seconds < 20 else 40):
        start = time.perf_counter()
        classify([one])
        waits.append(1000 * (time.perf_counter() - start))
    p50, p99 = np.percentile(waits, (50, 99))
    return {"audio_seconds_a_second": sum(lengths[:count]) / took, "p50_ms": p50, "p99_ms": p99}


def ours(seconds: float, int8: bool = False) -> dict[str, float]:
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
        paths, lengths = files_in(folder, CLIPS)
        one = str(Path(folder) / "one.wav")
        soundfile.write(one, yardstick.noise(4, 0), 16_000)
        return timed(lambda files: list(predict(pipe, files)), paths, lengths, one, seconds)


def stock(batch_size: int, seconds: float) -> dict[str, float]:
    pipe = stock_pipeline()
    lengths = yardstick.shemo_lengths(CLIPS, yardstick.LONGEST_SECONDS)
    waves = [yardstick.noise(s, k) for k, s in enumerate(lengths)]

    def classify(chosen: list) -> Any:
        return pipe(chosen, batch_size=batch_size)

    return timed(classify, waves, lengths, yardstick.noise(4, 0), seconds)


def main() -> None:
    args = yardstick.arguments_of(__doc__)
    rows = {
        "ours": ours,
        "pipeline_batch_1": lambda seconds: stock(1, seconds),
        "pipeline_batch_8": lambda seconds: stock(8, seconds),
        "ours_int8": lambda seconds: ours(seconds, int8=True),
    }
    found = yardstick.run(__file__, args, rows, 4 if args.quick else 40)
    if not found:
        return
    import torch

    pipe = our_pipeline()
    with torch.no_grad():
        lengths = yardstick.shemo_lengths(CLIPS, yardstick.LONGEST_SECONDS)
        work = yardstick.gflop_per_second(lambda wave: pipe.model(wave), lengths)
    rate, key = yardstick.matrix_gflops(), "audio_seconds_a_second"
    figures = {row: own[key] for row, own in found.items()} | {"latency": found}
    figures |= {"matrix_gflops": rate, "gflop_per_audio_second": work}
    yardstick.show(found, [key, "p50_ms", "p99_ms", "peak_gb"], args.json, figures)
    yardstick.show_limit(found, work, rate)


if __name__ == "__main__":
    main()
