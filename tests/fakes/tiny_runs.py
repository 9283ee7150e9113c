"""Runs of seconds: a tiny HuBERT on tones, launched as a user launches a run."""

from pathlib import Path

import pandas as pd
import yaml

import run_ser

ROOT = Path(__file__).parents[2]


TINY = {
    "corpus": "manifest",
    "num_folds": 3,
    "backbone_config": {
        "model_type": "hubert",
        "conv_kernel": [400, 3],
        "conv_stride": [160, 2],
        "conv_dim": [32, 32],
        "feat_extract_norm": "layer",
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "mask_time_prob": 0.0,
    },
    "learning_rate": 3e-3,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 8,
    "use_cpu": True,
    "disable_tqdm": True,
}
# Still smaller, for tests that train many times.
SMALLEST = {
    **TINY["backbone_config"],
    "conv_dim": [16, 16],
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "intermediate_size": 16,
}


def launch(folder: Path, manifest: Path, *flags: str) -> int:
    config = folder.parent / "config.yaml"
    config.write_text(yaml.safe_dump(TINY | {"manifest": str(manifest)}))
    return run_ser.main([str(config), "--output_dir", str(folder), *flags])


def train(folder: Path, manifest: Path, *flags: str) -> Path:
    assert launch(folder, manifest, "--debug_errors", "true", *flags) == 0
    return folder


def predictions_of(folder: Path, split: str = "test") -> pd.DataFrame:
    table = pd.read_parquet(folder / "predictions.parquet")
    return table[table["split"] == split]
