"""Persian sentences spoken by espeak-ng in six manners: a corpus only for trying the whole chain.

espeak-ng is GPL-3.0 and runs in its own process (see [`speak_elsewhere`]); nothing else imports it. The new process
also gives a fresh library: what espeak-ng says depends on everything it said before.
"""

import importlib.metadata
import importlib.util
import json
import os
import random
import subprocess
import sys
import wave as wave_format
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.data.corpora.recordings import Corpus, Recording

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

VOICES = tuple(f"m{n}" for n in range(1, 8)) + tuple(f"f{n}" for n in range(1, 6))
# Lowest and highest value of espeak-ng's rate (words a minute), volume, pitch and pitch range (0 to 100 each). Every
# range overlaps that of another emotion, so that no single one tells the emotion.
MANNERS = {
    "anger": ((215, 262), (86, 100), (34, 54), (62, 92)),
    "fear": ((230, 280), (38, 66), (70, 95), (6, 30)),
    "happiness": ((178, 222), (70, 92), (56, 78), (60, 88)),
    "neutral": ((150, 184), (54, 76), (32, 50), (26, 46)),
    "sadness": ((104, 142), (34, 60), (16, 38), (4, 28)),
    "surprise": ((128, 164), (64, 90), (74, 98), (76, 99)),
}
LETTERS = {"anger": "A", "fear": "F", "happiness": "H", "neutral": "N", "sadness": "S", "surprise": "W"}
# ShEMO's own counts by the letter in the file name.
SHARES = {"anger": 1059, "neutral": 1028, "sadness": 449, "surprise": 225, "happiness": 201, "fear": 38}
# Every voice has at least this many clips of each class, so that every fold of speakers tests every class.
MIN_CLIPS_PER_VOICE = 3
SENTENCES = (
    "کتاب روی میز است.",
    "فردا به مدرسه می‌روم.",
    "پنجره رو به باغ باز می‌شود.",
    "قطار ساعت پنج می‌رسد.",
    "نان تازه خریدم.",
    "او در بانک کار می‌کند.",
    "هوا امروز ابری است.",
    "کلید در جیب من است.",
    "خانه‌ی ما نزدیک رودخانه است.",
    "چای روی اجاق است.",
    "برادرم نامه نوشت.",
    "این راه به شهر می‌رسد.",
    "درس ساعت هشت شروع می‌شود.",
    "صندلی کنار دیوار است.",
    "مادرم به بازار رفت.",
    "ماشین جلوی در ایستاده است.",
    "باران از صبح می‌بارد.",
    "دفتر سبز مال من است.",
    "فروشگاه تا شب باز است.",
    "او هر روز روزنامه می‌خواند.",
    "لیوان آب را آوردم.",
    "پرنده روی درخت نشست.",
    "جلسه به فردا افتاد.",
    "چراغ اتاق روشن است.",
    "دوستم از سفر برگشت.",
    "غذا روی میز آماده است.",
    "کفش‌هایم پشت در است.",
    "شماره‌ی تلفن را نوشتم.",
    "اتوبوس کنار پل می‌ایستد.",
    "آن‌ها در طبقه‌ی سوم‌اند.",
)


def synthetic(args: "DataArguments") -> Corpus:
    """Plans `--synthetic_clips` clips of `--synthetic_voices` voices, named as ShEMO names its files.

    Raises:
        ImportError: The extra `demo` is not installed.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise ImportError("--corpus synthetic speaks with espeakng-loader, which is missing: pip install 'ser[demo]'")
    plan = planned(args.synthetic_clips, args.synthetic_voices, args.synthetic_seed)
    recordings = tuple(
        Recording(
            id=spoken["id"],
            path=f"{spoken['id']}.wav",
            emotion=spoken["emotion"],
            speaker=spoken["id"][:3],
            gender="female" if spoken["id"][0] == "F" else "male",
            transcript=spoken["text"],
        )
        for spoken in plan
    )
    facts = {
        "name": "synthetic",
        "label_source": "filename",
        "licence": "none: made on this machine by espeak-ng",
        "language": "fa",
        "homepage": "https://github.com/espeak-ng/espeak-ng",
        "citation": "Made by espeak-ng; not recordings of people.",
        "notes": ["Synthetic speech: scores on it say nothing about emotion in people's voices."],
    }
    state = (importlib.metadata.version("espeakng-loader"), plan)

    def fetch(folder: Path) -> Corpus:
        # All clips are spoken even if --max_clips keeps a few: a clip depends on the clips before it.
        speak_elsewhere(plan, folder)
        return replace(corpus, root=folder, fetch=None)

    corpus = Corpus(facts, recordings, tuple(sorted(MANNERS)), fetch=fetch, state=state)
    return corpus


def planned(num_clips: int, num_voices: int, seed: int) -> list[dict]:
    """Decides who says what and how; the same arguments give the same plan.

    Returns:
        One dictionary for each clip, sorted by id: id, emotion, text, voice, rate, volume, pitch, range.
    """
    rng = random.Random(f"{num_clips} {num_voices} {seed}")
    # Women and men in turn, until one of the two runs out.
    voices = sorted(VOICES, key=lambda voice: (int(voice[1:]), voice))[:num_voices]
    counts, plan = counts_per_class(num_clips, num_voices), []
    for emotion, count in counts.items():
        order = rng.sample(voices, num_voices)
        for index in range(count):
            voice, number = order[index % num_voices], index // num_voices + 1
            values = [rng.randint(low, high) for low, high in MANNERS[emotion]]
            speaker = f"{voice[0].upper()}{int(voice[1:]):02d}"
            plan.append(
                {
                    "id": f"{speaker}{LETTERS[emotion]}{number:02d}",
                    "emotion": emotion,
                    "text": rng.choice(SENTENCES),
                    "voice": f"fa+{voice}",
                    **dict(zip(("rate", "volume", "pitch", "range"), values, strict=True)),
                }
            )
    return sorted(plan, key=lambda spoken: spoken["id"])


def counts_per_class(num_clips: int, num_voices: int) -> dict[str, int]:
    """Divides clips among the six classes as in ShEMO; classes that would get too few get the minimum."""
    floor = min(MIN_CLIPS_PER_VOICE * num_voices, num_clips // len(SHARES))
    rare: set[str] = set()
    while True:
        left, total = num_clips - floor * len(rare), sum(SHARES[name] for name in SHARES if name not in rare)
        counts = {name: floor if name in rare else left * share // total for name, share in SHARES.items()}
        too_few = {name for name, count in counts.items() if count < floor}
        if not too_few:
            break
        rare |= too_few
    # The frequent classes come first and get the clips that rounding left over.
    for name in [*SHARES][: num_clips - sum(counts.values())]:
        counts[name] += 1
    return counts


def speak_elsewhere(plan: list[dict], folder: Path) -> None:
    """Writes a 22.05 kHz WAV file for each clip into `folder`, in its own process.

    Raises:
        RuntimeError: espeak-ng failed.
    """
    project = Path(__file__).resolve().parents[3]
    paths = os.pathsep.join(filter(None, (str(project), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import main; main()", str(folder)],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    if done.returncode:
        raise RuntimeError(f"espeak-ng failed: {done.stderr.strip()}")


def speak(plan: list[dict], folder: Path) -> None:
    """Speaks a plan, clip after clip, into WAV files of 22.05 kHz mono PCM_16. Only once in a process: see the module.

    The constants are those of espeak-ng's `speak_lib.h`.
    """
    import ctypes

    import espeakng_loader

    callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    chunks: list[bytes] = []

    @callback_type
    def collect(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    synchronous, utf8, by_character = 2, 1, 1
    rate_hz = library.espeak_Initialize(synchronous, 0, os.fsencode(espeakng_loader.get_data_path()), 0)
    if rate_hz <= 0:
        raise RuntimeError(f"espeak_Initialize returned {rate_hz}.")
    library.espeak_SetSynthCallback(collect)
    for number, spoken in enumerate(plan):
        if library.espeak_SetVoiceByName(spoken["voice"].encode()):
            raise RuntimeError(f"espeak-ng has no voice {spoken['voice']}.")
        for parameter, name in enumerate(("rate", "volume", "pitch", "range"), start=1):
            library.espeak_SetParameter(parameter, spoken[name], 0)
        library.espeak_ng_SetRandSeed(number + 1)
        chunks.clear()
        text = spoken["text"].encode()
        library.espeak_Synth(text, len(text) + 1, 0, by_character, 0, utf8, None, None)
        with wave_format.open(str(folder / f"{spoken['id']}.wav"), "wb") as file:
            file.setparams((1, 2, rate_hz, 0, "NONE", ""))
            file.writeframes(b"".join(chunks))


def main() -> None:
    """Speaks the plan that comes on stdin into the folder that the command line names."""
    speak(json.load(sys.stdin), Path(sys.argv[1]))
