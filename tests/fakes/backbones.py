"""Models of any backbone's configuration with random weights, and noise of many lengths."""

import copy

import numpy as np
import torch

from ser_model import SERConfig, SERForAudioClassification


def build(backbone, **config) -> SERForAudioClassification:
    torch.manual_seed(0)
    config = SERConfig(backbone_config=copy.deepcopy(backbone), num_labels=6, **config)
    model = SERForAudioClassification(config).eval()
    for parameter in model.parameters():  # biases and norms away from 0 and 1, as training leaves them
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def clips(count: int = 20, low: float = 0.1, high: float = 12.0) -> list[torch.Tensor]:
    generator = np.random.default_rng(0)
    seconds = np.geomspace(low, high, count)
    return [torch.from_numpy(generator.standard_normal(int(16000 * s)).astype(np.float32)) for s in seconds]
