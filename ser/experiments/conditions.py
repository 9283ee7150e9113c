"""What `ser robustness` does to clips: kinds of corruption, with their parameters and names.

Imports nothing slow, so that a wrong name on the command line is answered at once.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Condition:
    """One corruption with its parameters.

    Attributes:
        name: Its name in tables.
        kind: A key of `KINDS`.
        parameters: What the function of that kind takes, by name.
    """

    name: str
    kind: str
    parameters: dict[str, float] = field(default_factory=dict)


CONDITIONS = (
    Condition("noise, SNR 20 dB", "noise", {"snr_db": 20.0}),
    Condition("noise, SNR 10 dB", "noise", {"snr_db": 10.0}),
    Condition("noise, SNR 0 dB", "noise", {"snr_db": 0.0}),
    Condition("gain +12 dB", "gain", {"gain_db": 12.0}),
    Condition("gain -12 dB", "gain", {"gain_db": -12.0}),
    Condition("telephone, mu-law", "telephone", {"low_hz": 300.0, "high_hz": 3400.0}),
    Condition("MP3, 24 kbit/s", "mp3", {"kbit_per_second": 24.0}),
    Condition("MP3, 12 kbit/s", "mp3", {"kbit_per_second": 12.0}),
    Condition("Opus, 12 kbit/s", "opus", {"kbit_per_second": 12.0}),
    Condition("Opus, 6 kbit/s", "opus", {"kbit_per_second": 6.0}),
    Condition("room, RT60 0.4 s", "reverberation", {"rt60_seconds": 0.4, "direct_to_reverberant_db": 3.0}),
    Condition("hall, RT60 1.2 s", "reverberation", {"rt60_seconds": 1.2, "direct_to_reverberant_db": -3.0}),
    Condition("clipping, 10 %", "clipping", {"share": 0.1}),
    Condition("speed 0.9", "speed", {"factor": 0.9}),
    Condition("speed 1.1", "speed", {"factor": 1.1}),
)


def chosen_conditions(names: str | None) -> tuple[Condition, ...]:
    """The conditions of these names or kinds, with semicolons between, since names hold commas; all by default.

    Raises:
        ValueError: There is no such condition.
    """
    if names is None:
        return CONDITIONS
    wanted = [name.strip() for name in names.split(";") if name.strip()]
    unknown = [name for name in wanted if name not in {c.name for c in CONDITIONS} | {c.kind for c in CONDITIONS}]
    if unknown or not wanted:
        kinds = ", ".join(dict.fromkeys(c.kind for c in CONDITIONS))
        known = "; ".join(c.name for c in CONDITIONS)
        raise ValueError(f"--conditions: {unknown or names!r} is not known; kinds are {kinds}; names: {known}.")
    return tuple(c for c in CONDITIONS if c.name in wanted or c.kind in wanted)
