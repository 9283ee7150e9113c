"""How well a frozen pretrained encoder does on real speech: the head of this project against scikit-learn's.

    python benchmarks/quality.py --data_dir emodb --encoder whisper-tiny.en-encoder

EMO-DB, one speaker left out at a time. Layer and strength are chosen inside train in every row. The first
row is scikit-learn's logistic regression on the same statistics that the others are fitted on.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import sklearn
import torch
import transformers
import yaml

import run_ser
from data_prep import load_corpus
from ser.evaluation.compare import compare
from ser.evaluation.format import format_difference, format_interval, format_p
from ser.experiments.encoder_baseline import run_encoder_baseline
from ser.predictions import read_predictions
from ser.training.arguments import parse_arguments
from ser.training.jobs import Job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="folder of EMO-DB")
    parser.add_argument("--encoder", required=True, help="folder or name of a pretrained encoder")
    parser.add_argument("--protocol", default="leave_one_speaker_out", help="as of run_ser.py")
    parser.add_argument("--seeds", default="1,2,3", help="seeds of the head")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "corpus": "emodb",
            "data_dir": str(Path(args.data_dir).resolve()),
            "protocol": args.protocol,
            "fold": "all",
            "cache_dir": f"{folder}/cache",
            "model_name_or_path": args.encoder,
            "train_mode": "probe",
            "whisper_full_window": False,
            "layer_mix": "best",
            "pooling": "mean_std",
            "loss": "weighted",
            "disable_tqdm": True,
        }
        print(table(config, args.seeds, Path(folder)))
    versions = f"scikit-learn {sklearn.__version__}, torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"\n{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, {versions}.")


def table(config: dict, seeds: str, folder: Path) -> str:
    """Runs every row and prints the table."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    model, data, training = parse_arguments([str(path), "--output_dir", str(folder / "run")])
    job = Job(model, data, training, folder / "run", training.seed, -1)
    started = time.monotonic()
    results = run_encoder_baseline(load_corpus(data), job, folder / "baseline")
    first, rows = read_predictions(folder / "baseline"), []
    rows.append(["scikit-learn", results, None, time.monotonic() - started])
    for head in ("linear", "tanh"):
        flags = ["--head", head, "--seeds", seeds, "--output_dir", str(folder / head)]
        started = time.monotonic()
        if run_ser.main([str(path), *flags]):
            raise SystemExit(f"The run with --head {head} failed.")
        seconds = time.monotonic() - started
        found = compare(read_predictions(folder / head), first)["uar"]
        rows.append([f"--head {head}", json.loads((folder / head / "results.json").read_text()), found, seconds])
    lines = ["| head | UAR | difference to the first | seconds, whole |", "|---|---|---|---|"]
    for name, results, found, seconds in rows:
        test = results["test"]
        difference = ""
        if found:
            difference = f"{format_difference(found['difference'], found['interval'])}, {format_p(found['p_value'])}"
        lines.append(
            f"| {name} | {format_interval(test['uar'], test['intervals']['uar'])} | {difference} | {seconds:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
