"""One optimiser step on eight clips of unequal length, and its gradient: `python one_step.py OUT SIZE ACCUMULATE LOSS`.

Started once alone and once by torchrun on two processes, to compare the two.
"""

import sys

import datasets
import numpy as np
import torch
from fakes.tiny import feature_extractor
from transformers import HubertConfig, TrainerCallback

from ser.data.audio import encode_wav
from ser.data.batching import Clips, Collator
from ser.training.arguments import ModelArguments, SERTrainingArguments
from ser.training.distributed import leave_process_group
from ser.training.trainer import SERTrainer
from ser_model import SERConfig, SERForAudioClassification

LABELS = ["anger", "fear", "neutral"]
# Class 1 has one clip of eight: the weights matter.
CLASSES = [0, 0, 2, 2, 1, 0, 2, 0]
QUIET = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "mask_time_prob": 0.0}
SHAPE = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
CONVOLUTIONS = {"conv_dim": (16, 16), "conv_kernel": (400, 3), "conv_stride": (160, 2)}
POSITIONS = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


def corpus(seconds: list[float], classes: list[int]) -> datasets.Dataset:
    """Noise of the given lengths, as a prepared corpus."""
    generator = np.random.default_rng(0)
    waves = [generator.standard_normal(int(16000 * s)).astype(np.float32) * 0.1 for s in seconds]
    rows = {
        "id": [f"clip{i}" for i in range(len(waves))],
        "duration": seconds,
        "emotion": classes,
        "audio": [{"bytes": encode_wav(wave), "path": None} for wave in waves],
    }
    return datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio(sampling_rate=16000, decode=False))


def small_model(**config) -> SERForAudioClassification:
    torch.manual_seed(0)
    backbone = HubertConfig(**SHAPE, **CONVOLUTIONS, **POSITIONS, **QUIET)
    return SERForAudioClassification(
        SERConfig(backbone_config=backbone, num_labels=len(LABELS), final_dropout=0.0, **config)
    )


def gradient_of_one_step(out: str, size: int, accumulate: int, loss: str, folder: str) -> dict[str, torch.Tensor]:
    """Trains one step and returns the gradient that the optimiser saw, by parameter."""
    seen: dict[str, torch.Tensor] = {}

    class Record(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    seen[name.removeprefix("module.")] = parameter.grad.detach().clone()

    args = SERTrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulate,
        max_steps=1,
        max_grad_norm=0.0,
        eval_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    clips = Clips(corpus([0.5, 1.3, 0.2, 2.0, 0.9, 0.3, 1.1, 0.7], CLASSES), CLASSES)
    model = small_model()
    collator = Collator(feature_extractor())
    trainer = SERTrainer(model, args, ModelArguments(loss=loss), LABELS, collator, train_dataset=clips)
    trainer.add_callback(Record())
    trainer.train()
    if out and args.process_index == 0:
        torch.save(seen, out)
    return seen


if __name__ == "__main__":
    gradient_of_one_step(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], f"{sys.argv[1]}.run")
    leave_process_group()
