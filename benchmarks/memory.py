"""Peak memory of a forward pass with the last layer alone and with the weighted sum of all, each in its own process.

python benchmarks/memory.py
"""

import resource
import subprocess
import sys


def peak_mebibytes(layer_mix: str) -> float:
    """Peak resident memory of HuBERT-base, random weights, on a batch of 8 clips of 8 s."""
    import torch
    from transformers import HubertConfig

    from ser_model import SERConfig, SERForAudioClassification

    config = SERConfig(backbone_config=HubertConfig(), num_labels=6, pooling="mean_std", layer_mix=layer_mix)
    model = SERForAudioClassification(config).eval()
    with torch.inference_mode():
        model(torch.randn(8, 16000 * 8))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    if len(sys.argv) == 2:
        print(peak_mebibytes(sys.argv[1]))
        return
    print("| layer_mix | peak memory, MiB |\n|---|---|")
    for layer_mix in ("last", "weighted"):
        output = subprocess.run([sys.executable, __file__, layer_mix], capture_output=True, text=True, check=True)
        print(f"| {layer_mix} | {float(output.stdout.split()[-1]):.0f} |")


if __name__ == "__main__":
    main()
