"""How many seconds of real audio are trained in a second: this project against what is usual.

    python benchmarks/bench_train.py --quick
    python benchmarks/bench_train.py --json train.json

HuBERT-base in size, random weights, clips of ShEMO's lengths, float32. Rows: `ours`, with the settings of
configs/shemo_hubert_base.yaml and without augmentation, in the batches that are the default of this device;
`ours_bf16`, the same with --bf16 true; `ours_plain_loop`, the same model, batches, loss and optimizer without
`Trainer`, so that the difference to `ours` is what `Trainer` costs; `trainer_random_8`, transformers' own classifier
under `Trainer` with random batches of 8, padded to the longest; `loop_batch_2`, the loop that many repositories have:
batches of 2, `librosa.load` for each clip, Adam over all weights. These two train on the same 32 clips, in one random
order. Padding is not counted as audio.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import yardstick

CLIPS, SECONDS = 3000, 60
# All rows cut longer clips to it, 1.5 % of ShEMO's. A batch of 8 clips of 16 s takes transformers' own model to 21 GB,
# and one of 20 s beyond the 24 GB of the machine of benchmarks/RESULTS.md.
LONGEST_SECONDS = 16.0
LABELS = ["anger", "fear", "happiness", "neutral", "sadness", "surprise"]


class Counting:
    """A collator that notes how much audio is in each batch, and how much it is with its padding."""

    def __init__(self, inner: Any, seconds_of: Any):
        self.inner, self.seconds_of = inner, seconds_of
        self.real: list[float] = []
        self.padded: list[float] = []

    def __call__(self, rows: list) -> dict[str, Any]:
        batch = self.inner(rows)
        self.real.append(sum(self.seconds_of(row) for row in rows))
        self.padded.append(batch["input_values"].numel() / 16_000)
        return batch


def timed_training(trainer: Any, counting: Counting, seconds: float) -> dict[str, float]:
    """Trains for about so many seconds; the first step warms up and is not counted."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            ends.append(time.perf_counter())
            control.should_training_stop = len(ends) > 1 and ends[-1] - ends[0] > seconds

    trainer.add_callback(Stop())
    trainer.train()
    real, padded = sum(counting.real[1 : len(ends)]), sum(counting.padded[1 : len(ends)])
    return {"audio_seconds_a_second": real / (ends[-1] - ends[0]), "padding_ratio": padded / real}


def our_parts() -> tuple[Any, Any, Any]:
    """Clips, collator and model arguments of the plain recipe."""
    import datasets
    from transformers import Wav2Vec2FeatureExtractor

    from ser.data.audio import encode_wav
    from ser.data.batching import Clips, Collator
    from ser.training.arguments import ModelArguments

    lengths, wave = yardstick.shemo_lengths(CLIPS, LONGEST_SECONDS), yardstick.noise(LONGEST_SECONDS, 0)
    rows = {
        "id": [f"clip{index}" for index in range(CLIPS)],
        "duration": lengths,
        "emotion": [index % len(LABELS) for index in range(CLIPS)],
        "audio": [{"bytes": encode_wav(wave[: int(16_000 * s)]), "path": None} for s in lengths],
    }
    dataset = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio(sampling_rate=16_000, decode=False))
    clips = Clips(dataset, rows["emotion"], max_seconds=LONGEST_SECONDS)
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
    counting = Counting(Collator(extractor), lambda row: len(row["wave"]) / 16_000)
    return clips, counting, ModelArguments(loss="weighted", pooling="mean_std")


def our_trainer(folder: str, **flags: Any) -> tuple[Any, Counting]:
    """The trainer of the plain recipe, without augmentation."""
    from ser.freed_memory import keep_freed_memory
    from ser.training.arguments import SERTrainingArguments
    from ser.training.trainer import SERTrainer

    keep_freed_memory()
    clips, counting, arguments = our_parts()
    args = SERTrainingArguments(
        output_dir=folder,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        **{"num_train_epochs": 1, **flags},
    )
    return SERTrainer(our_model(), args, arguments, LABELS, counting, train_dataset=clips), counting


def seconds_of(quick: bool) -> float:
    """How long a row of ours trains; its batches are those of an epoch of all clips, in their order."""
    return SECONDS / 12 if quick else SECONDS


def lengths_of_clips(quick: bool) -> list[float]:
    """Lengths in seconds for the other rows, whose first 8 clips warm up and are not counted."""
    return [1.0 if quick else 4.0] * 8 + yardstick.typical_lengths(8 if quick else 32, LONGEST_SECONDS)


def ours(quick: bool, **flags: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        return timed_training(*our_trainer(folder, **flags), seconds_of(quick))


def ours_bf16(quick: bool) -> dict[str, float]:
    import torch

    return ours(quick, bf16=True, use_cpu=not torch.cuda.is_available())


def ours_plain_loop(quick: bool) -> dict[str, float]:
    """The same steps as `ours`: batches, loss, clipping of the gradient and optimizer, but no `Trainer`."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        trainer, counting = our_trainer(folder)
        model, optimizer = trainer.model.train(), trainer.create_optimizer()
        start, steps = None, 0
        for batch in trainer.get_train_dataloader():
            optimizer.zero_grad()
            loss = trainer.compute_loss(model, batch, num_items_in_batch=len(batch["labels"]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            steps += 1
            if start is None:
                start = time.perf_counter()
            elif time.perf_counter() - start > seconds_of(quick):
                break
        took = time.perf_counter() - start
    real, padded = sum(counting.real[1:steps]), sum(counting.padded[1:steps])
    return {"audio_seconds_a_second": real / took, "padding_ratio": padded / real}


def our_model() -> Any:
    import torch
    from transformers import HubertConfig

    from ser_model import SERConfig, SERForAudioClassification

    torch.manual_seed(0)
    backbone = HubertConfig(attention_dropout=0.0)
    config = SERConfig(backbone_config=backbone, num_labels=len(LABELS), pooling="mean_std")
    model = SERForAudioClassification(config)
    model.freeze_feature_encoder()
    return model


def stock_model() -> Any:
    import torch
    from transformers import HubertConfig, HubertForSequenceClassification

    torch.manual_seed(0)
    return HubertForSequenceClassification(HubertConfig(num_labels=len(LABELS)))


def stock_trainer(folder: str, lengths: list[float], **flags: Any) -> tuple[Any, Counting]:
    """transformers' own classifier under its own `Trainer`: batches of 8 in the order of `lengths`, padded."""
    import torch
    from transformers import Trainer, TrainingArguments, Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)

    def collate(rows: list) -> dict[str, Any]:
        waves = [yardstick.noise(s, k) for k, s in rows]
        batch = extractor(waves, sampling_rate=16_000, padding=True, return_tensors="pt")
        return {**batch, "labels": torch.tensor([k % len(LABELS) for k, _ in rows])}

    counting = Counting(collate, lambda row: row[1])
    args = TrainingArguments(
        output_dir=folder, per_device_train_batch_size=8, eval_strategy="no", report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True, remove_unused_columns=False, train_sampling_strategy="sequential",
        **{"num_train_epochs": 1, **flags},
    )  # fmt: skip
    clips = list(enumerate(lengths))
    return Trainer(model=stock_model(), args=args, data_collator=counting, train_dataset=clips), counting


def trainer_random_8(quick: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        return timed_training(*stock_trainer(folder, lengths_of_clips(quick)), float("inf"))


def loop_batch_2(quick: bool) -> dict[str, float]:
    import librosa
    import soundfile
    import torch
    from transformers import Wav2Vec2FeatureExtractor

    extractor, model = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True), stock_model().train()
    optimizer, lengths = torch.optim.Adam(model.parameters(), lr=1e-5), lengths_of_clips(quick)
    real = padded = start = 0.0
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.wav" for index in range(len(lengths))]
        for index, path in enumerate(paths):
            soundfile.write(path, yardstick.noise(lengths[index], index), 16_000)
        for first in range(0, len(paths), 2):
            if first == 8:
                start, real, padded = time.perf_counter(), 0.0, 0.0
            waves = [librosa.load(path, sr=16_000)[0] for path in paths[first : first + 2]]
            batch = extractor(waves, sampling_rate=16_000, padding=True, return_tensors="pt")
            labels = torch.tensor([index % len(LABELS) for index in (first, first + 1)])
            optimizer.zero_grad()
            model(**batch, labels=labels).loss.backward()
            optimizer.step()
            real += sum(lengths[first : first + 2])
            padded += batch["input_values"].numel() / 16_000
    return {"audio_seconds_a_second": real / (time.perf_counter() - start), "padding_ratio": padded / real}


def training_gflop() -> float:
    """GFLOP of one second of audio in our training: forward, and backward down to the frozen convolutions."""
    model = our_model().train()

    def step(wave: Any) -> None:
        model(wave).logits.sum().backward()

    return yardstick.gflop_per_second(step, yardstick.shemo_lengths(CLIPS, LONGEST_SECONDS))


def main() -> None:
    args = yardstick.arguments_of(__doc__)
    rows = {row.__name__: row for row in (ours, ours_bf16, ours_plain_loop, trainer_random_8, loop_batch_2)}
    found = yardstick.run(__file__, args, rows)
    if not found:
        return
    rate, work = found.pop(yardstick.LIMIT)["gflops"], training_gflop()
    key = "audio_seconds_a_second"
    figures = {row: own[key] for row, own in found.items()}
    figures |= {name: {row: own[name] for row, own in found.items()} for name in ("padding_ratio", "peak_gb")}
    figures |= {"matrix_gflops": rate, "gflop_per_audio_second": work}
    yardstick.show(found, [key, "padding_ratio", "peak_gb"], args.json, figures)
    yardstick.show_limit(found, work, rate)


if __name__ == "__main__":
    main()
