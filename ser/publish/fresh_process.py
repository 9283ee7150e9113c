"""Loads a model folder as users do and scores clips. `pre_push_checks` runs it in a new process, as source text.

    python -c "$(cat fresh_process.py)" REQUEST.json ANSWER.json

It imports nothing from this project and makes such imports in the model's code fail: users have only the pushed files.
"""

import json
import sys
from pathlib import Path


def main(request_path: str, answer_path: str) -> None:
    """Reads `{"folder", "clips": {id: WAV file}, "is_ours"}`; writes scores and names of weights that do not fit."""
    for name in ("ser", "ser_model", "data_prep", "run_ser"):
        sys.modules[name] = None  # type: ignore[assignment]  # as Python documents: an import of it fails
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    answer = examine(request["folder"], request["clips"], request["is_ours"])
    Path(answer_path).write_text(json.dumps(answer), encoding="utf-8")


def examine(folder: str, clips: dict, is_ours: bool) -> dict:
    """Loads a model and scores clips.

    Returns:
        `missing` and `left_over`: names of weights; `scores`: for each clip the score of each label.
    """
    from transformers import AutoModelForAudioClassification, logging, pipeline

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    trust = {"trust_remote_code": is_ours}  # never None, for which transformers asks on the terminal
    _, report = AutoModelForAudioClassification.from_pretrained(folder, output_loading_info=True, **trust)
    classify = pipeline("audio-classification", model=folder, **trust)
    scores = {}
    for clip, path in clips.items():
        # The stock pipeline reads files with the ffmpeg program, which may not be installed.
        answers = classify(path if is_ours else _as_array(path))
        scores[clip] = {answer["label"]: answer["score"] for answer in answers}
    missing, left_over = set(report["missing_keys"]), set(report["unexpected_keys"])
    if is_ours:  # transformers' own classes may use other names in the file than in memory
        stored, needed = _stored_weights(folder), set(classify.model.state_dict())
        missing, left_over = missing | (needed - stored), left_over | (stored - needed)
    return {"missing": sorted(missing), "left_over": sorted(left_over), "scores": scores}


def _stored_weights(folder: str) -> set:
    from safetensors import safe_open

    names = set()
    for path in Path(folder).glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            names.update(file.keys())
    return names


def _as_array(path: str) -> dict:
    import soundfile

    wave, sampling_rate_hz = soundfile.read(path, dtype="float32")
    return {"raw": wave, "sampling_rate": sampling_rate_hz}


if __name__ == "__main__":
    main(*sys.argv[1:])
