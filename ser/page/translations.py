"""Texts of the page in English and Persian; both are in the page, and the style sheet shows one."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from ser.evaluation import format as words

# Corpora name their classes in English; a class that is not here keeps its name in both languages.
EMOTIONS = {
    "anger": "خشم",
    "boredom": "بی‌حوصلگی",
    "calm": "آرامش",
    "disgust": "انزجار",
    "fear": "ترس",
    "happiness": "شادی",
    "neutral": "خنثی",
    "sadness": "غم",
    "silence": "سکوت",
    "surprise": "تعجب",
}
# A known emotion always has the same colour, shown beside its name. White text on each has a contrast of 4.5 (AA).
COLOURS = {
    "anger": "#c2410c",
    "boredom": "#8a6d3b",
    "calm": "#2c7572",
    "disgust": "#5f7119",
    "fear": "#7c4dbd",
    "happiness": "#946400",
    "neutral": "#6b7684",
    "sadness": "#1d5fa6",
    "surprise": "#137a54",
}
_OTHER_COLOURS = ("#b0366f", "#2f7d95", "#75631c", "#5457b5", "#9a4a3c", "#4b7a3f")
_TEXTS = {
    "title": ("How does this voice sound?", "این صدا چه حسی دارد؟"),
    "intro": ("Record or upload speech.", "صدایی ضبط یا بارگذاری کنید."),
    "model": ("Model: {model}", "مدل: {model}"),
    "examples": ("Or try an example", "یا یک نمونه را امتحان کنید"),
    "waiting": ("The answer appears here.", "پاسخ اینجا نمایش داده می‌شود."),
    "not_sure": ("Not sure", "مطمئن نیستم"),
    "perhaps": ("perhaps {label}, {score}", "شاید {label}، {score}"),
    "whole": ("The whole recording, {length}", "کل فایل صوتی، {length}"),
    "timeline": ("Emotion over time", "احساس در طول زمان"),
    "legend": ("hatched: not sure", "هاشورخورده: نامطمئن"),
    "dashed": ("Dashed line: under {threshold} the answer is not sure.", "خط‌چین: زیر {threshold} پاسخ نامطمئن است."),
    "click": ("Click a part to hear it.", "برای شنیدن هر بخش روی آن کلیک کنید."),
    "parts": ("{count} parts", "{count} بخش"),
    "one_part": ("One part", "یک بخش"),
    "download": ("Download", "دریافت"),
    "subtitles": ("subtitles (SRT)", "زیرنویس (SRT)"),
    "table": ("table (CSV)", "جدول (CSV)"),
    "bad": ("This recording cannot be used", "این فایل قابل استفاده نیست"),
    "again": ("Choose another one above.", "فایل دیگری را از بالا انتخاب کنید."),
    "limits": ("Before you trust it", "پیش از آنکه اعتماد کنید"),
    "synthetic": (
        "This model learnt from synthetic speech: its answers and its score mean nothing for people.",
        "این مدل از گفتار ساختگی آموخته است: پاسخ‌ها و امتیاز آن درباره‌ی آدم‌ها هیچ معنایی ندارد.",
    ),
    "trained": ("Trained on {corpus}{facts}.", "آموزش‌دیده روی {corpus}{facts}."),
    "all_clips": (
        "The figures are those of {count} models trained in the same way, each tested on clips that it had not heard; "
        "this one was trained on all clips.",
        "آمارها از {count} مدلی است که به همین روش آموزش دیده و هر یک روی نمونه‌های نشنیده آزموده شده‌اند؛ این مدل با "
        "همه‌ی نمونه‌ها آموزش دیده است.",
    ),
    "guessing": (
        "UAR is the share that it finds of each class, averaged; guessing would give {chance}.",
        "UAR میانگین سهمی است که از هر دسته می‌یابد؛ حدس تصادفی {chance} می‌دهد.",
    ),
    "best": (
        "It finds {best} best (recall {high}) and {worst} worst (recall {low}).",
        "{best} را بهتر از همه می‌یابد (بازیابی {high}) و {worst} را بدتر از همه (بازیابی {low}).",
    ),
    "dependent": (
        "Speakers of the test may have been in training: expect lower scores for new speakers.",
        "شاید صداهای آزمون در آموزش هم بوده‌اند: برای صداهای تازه انتظار کمتری داشته باشید.",
    ),
    "no_results": (
        "This model comes without figures: how often it is right is not known.",
        "این مدل هیچ آماری همراه ندارد: معلوم نیست چند بار درست می‌گوید.",
    ),
    "calibrated": (
        "Percentages are probabilities, calibrated on speech like that of its corpus.",
        "درصدها احتمال‌اند و روی گفتاری مانند پیکره‌ی آموزش کالیبره شده‌اند.",
    ),
    "balanced": (
        "Percentages assume that all classes are equally frequent; for a rare class they are too high.",
        "درصدها با این فرض‌اند که همه‌ی دسته‌ها به یک اندازه رایج‌اند؛ برای دسته‌ی کمیاب از واقعیت بالاترند.",
    ),
    "failed": (
        "Calibration of the percentages failed on test: do not read them as probabilities.",
        "درصدها قرار بود کالیبره شوند، اما روی داده‌ی آزمون درست درنیامد: آن‌ها را احتمال نپندارید.",
    ),
    "uncalibrated": (
        "Percentages are the model's own and not calibrated: do not read them as probabilities.",
        "درصدها خام‌اند و کالیبره نشده‌اند: آن‌ها را احتمال نپندارید.",
    ),
    "threshold": (
        "Under {threshold} it says “not sure”, chosen on dev for 9 right answers in 10 on new voices.",
        "زیر {threshold} می‌گوید «مطمئن نیستم»؛ آستانه روی dev برای ۹ پاسخ درست از هر ۱۰ روی صداهای تازه برگزیده شده.",
    ),
    "on_test": (
        "On test, {precision} of its answers were right, and it answered {coverage} of the clips.",
        "روی داده‌ی آزمون {precision} پاسخ‌ها درست بود و به {coverage} نمونه‌ها پاسخ داد.",
    ),
    "no_threshold": (
        "The confidence needed to be right 9 times in 10 is not known, so every answer is shown, however unsure.",
        "آستانه‌ای که بالای آن از هر ۱۰ پاسخ ۹ تا درست باشد شناخته نیست؛ پس هر پاسخی نشان داده می‌شود.",
    ),
    "mind": (
        "This is how the voice sounds, not what the speaker feels.",
        "صدا چنین به گوش می‌رسد؛ اینکه گوینده چه احساسی دارد چیز دیگری است.",
    ),
    "how_far": ("How far to trust this", "تا کجا می‌توان اعتماد کرد"),
    "feels": (
        "It says how a voice sounds to some listeners, not what a person feels. Other languages, ages and "
        "microphones than those of its corpus are not covered.",
        "می‌گوید صدا به گوش برخی شنوندگان چگونه است، نه اینکه شخص چه احساسی دارد. زبان‌ها، سن‌ها و میکروفون‌هایی "
        "جز آنچه در پیکره بوده پوشش داده نشده‌اند.",
    ),
    "law": (
        "Not for decisions about people. In the EU, inferring emotions at work or in education is prohibited except "
        "for medical or safety reasons (AI Act, Article 5(1)(f)); elsewhere the people recorded "
        "must be told (Article 50(3)).",
        "برای تصمیم درباره‌ی اشخاص نیست. در اتحادیه‌ی اروپا تشخیص احساسات در محل کار و آموزش، جز به دلایل پزشکی یا "
        "ایمنی، ممنوع است (قانون هوش مصنوعی، ماده‌ی ۵، بند ۱، جزء f)؛ در جاهای دیگر باید به افراد اطلاع داد (ماده‌ی ۵۰، "
        "بند ۳).",
    ),
    "bounds": (
        "A recording may be up to {minutes} minutes long, and an answer may take up to {seconds} seconds. Recordings "
        "are scored one at a time; when {waiting} are waiting, try again later.",
        "طول فایل حداکثر {minutes} دقیقه و زمان پاسخ حداکثر {seconds} ثانیه است. فایل‌ها یکی‌یکی بررسی می‌شوند؛ اگر "
        "{waiting} فایل در صف باشد، بعداً دوباره امتحان کنید.",
    ),
    "kept": (
        "Recordings go to the computer that serves this page, and are deleted from it within two hours.",
        "فایل‌ها به رایانه‌ای که این صفحه را ارائه می‌دهد فرستاده و حداکثر تا دو ساعت بعد پاک می‌شوند.",
    ),
}
# Translations of errors of `read_blocks` and the pipeline, by a part of the English text.
_REASONS = {
    "0 bytes": "فایل خالی است (۰ بایت).",
    "is not audio": "این فایل صوتی نیست.",
    "holds no sample": "هیچ نمونه‌ی صوتی ندارد.",
    "too short": "بیش از حد کوتاه است.",
    "is silent": "سکوت کامل است؛ دوباره ضبط کنید.",
    "NaN": "نمونه‌های نامعتبر (NaN) دارد.",
    "is longer than": "طولانی‌تر از حد مجاز است؛ آن را کوتاه کنید.",
    "to decode": "خواندن آن بیش از حد طول کشید؛ به WAV تبدیل کنید.",
    "to score": "بررسی آن بیش از حد طول کشید؛ آن را کوتاه کنید.",
    "broke the decoder": "خوانده نمی‌شود؛ به WAV تبدیل کنید.",
    "sampling rate of": "نرخ نمونه‌برداری نادرستی دارد؛ فایل را دوباره بسازید.",
    "not finite": "مدل آسیب دیده است و پاسخی ندارد.",
    "weights are damaged": "مدل آسیب دیده است و پاسخی ندارد.",
    "cut off": "ناقص یا آسیب‌دیده است؛ دوباره کپی کنید.",
    "ffmpeg": "برای m4a و ویدئو برنامه‌ی ffmpeg لازم است؛ به WAV، FLAC، OGG یا MP3 تبدیل کنید.",
}
_DIGITS = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
_UNITS = {"h": "ساعت", "min": "دقیقه", "s": "ثانیه"}
_GENDERS = {"female": ("a woman", "یک زن"), "male": ("a man", "یک مرد")}
_PROTOCOLS = {
    "speaker_kfold": "{folds} بخشی",
    "leave_one_speaker_out": "با کنار گذاشتن هر گوینده",
    "leave_one_session_out": "با کنار گذاشتن هر نشست",
    "leave_one_corpus_out": "با کنار گذاشتن هر پیکره",
    "train_on_one_corpus": "با آموزش روی یک پیکره",
    "random_kfold": "{folds} بخشی تصادفی",
    "random_holdout": "با یک پنجم تصادفی برای آزمون",
    "given": "با تقسیم خود پیکره",
    "emobox_fold_1": "بخش ۱ از EmoBox",
    "nkululeko": "به روش nkululeko",
}
# Corpora and sources of labels that are no proper names.
_SOURCES = {
    "synthetic": ("synthetic speech", "گفتار ساختگی"),
    "filename": ("filename", "نام فایل"),
    "modified": ("modified", "اصلاح‌شده"),
    "original": ("original", "اصلی"),
}
_LANGUAGES = {
    "de": ("German", "آلمانی"),
    "en": ("English", "انگلیسی"),
    "fa": ("Persian", "فارسی"),
}


def both(english: Any, persian: Any) -> Markup:
    """A text in both languages; what is not `Markup` is escaped."""
    spans = '<span class="en" lang="en" dir="ltr">{}</span><span class="fa" lang="fa" dir="rtl">{}</span>'
    return Markup(spans).format(english, persian)  # a constant; format escapes  # nosec B704


def say(key: str, **values: Any) -> Markup:
    """A text of the page in both languages.

    Args:
        values: What its braces stand for: text, or a pair of English and Persian.
    """
    texts = []
    for index, text in enumerate(_TEXTS[key]):
        chosen = {name: value[index] if isinstance(value, tuple) else value for name, value in values.items()}
        texts.append(escape(text).format(**{name: Markup("<bdi>{}</bdi>").format(v) for name, v in chosen.items()}))
    return both(*texts)


def emotion(label: str) -> tuple[str, str]:
    """The name of a class in English and Persian."""
    return label, EMOTIONS.get(label.lower(), label)


def figure(text: str) -> tuple[str, str]:
    """A number, share or span of time with the digits, signs and units of each language.

    >>> figure("0.62")[1], figure("62\\xa0%")[1], figure("2 min 5 s")[1]
    ('۰٫۶۲', '۶۲٪', '۲ دقیقه ۵ ثانیه')
    """
    persian = re.sub(r"(?<=\d),(?=\d)", "٬", text)  # between thousands
    persian = " ".join(_UNITS.get(word, word) for word in persian.split(" "))
    return text, persian.translate(_DIGITS).replace("\N{NO-BREAK SPACE}%", "٪").replace(".", "٫").replace(",", "،")


def example_names(clips: list[tuple[str, str | None]]) -> list[tuple[str, str]]:
    """Names of example clips in both languages; clips of one name are numbered.

    Args:
        clips: Emotion and gender of each clip; None where the gender is not known.

    >>> example_names([("anger", "male"), ("anger", "male"), ("calm", None)])[1:]
    [('anger, a man (2)', 'خشم، یک مرد (۲)'), ('calm', 'آرامش')]
    """
    names: list[tuple[str, str]] = []
    seen: Counter[tuple[str, str | None]] = Counter()
    for clip in clips:
        label, gender = emotion(clip[0]), _GENDERS.get(clip[1] or "")
        english, persian = (f"{label[0]}, {gender[0]}", f"{label[1]}، {gender[1]}") if gender else label
        seen[clip] += 1
        number, digits = figure(f" ({seen[clip]})") if seen[clip] > 1 else ("", "")
        names.append((english + number, persian + digits))
    return names


def setting(results: Mapping[str, Any]) -> tuple[str, str]:
    """How the clips were split, and whose labels they have, as every page says it and in Persian."""
    protocol = results.get("protocol", {})
    name, folds = str(protocol.get("name", "")), figure(str(protocol.get("num_folds") or 1))[1]
    parts = [_PROTOCOLS.get(name, name).format(folds=folds)] if name else ["روش تقسیم نامعلوم"]
    independent = protocol.get("speaker_independent")
    if independent is not None:
        parts.insert(0, "مستقل از گوینده" if independent else "وابسته به گوینده")
    used = protocol.get("folds") or []
    if 0 < len(used) < (protocol.get("num_folds") or 1):
        parts.append(f"فقط بخش {figure(', '.join(map(str, used)))[1]}")
    if results.get("label_source"):
        parts.append(f"برچسب‌ها: {source(results['label_source'])[1]}")
    return words.setting_of(dict(results)), "، ".join(parts)


def source(name: str) -> tuple[str, str]:
    """The name of a corpus or of a source of labels in English and Persian."""
    return _SOURCES.get(name, (name, name))


def corpus_facts(corpus: Mapping[str, Any]) -> tuple[str, str]:
    """Language, speakers and hours of the data, as far as they are known."""
    facts = []
    if corpus.get("language"):
        facts.append(_LANGUAGES.get(str(corpus["language"]), (str(corpus["language"]),) * 2))
    if corpus.get("speakers"):
        count, persian = figure(words.format_count(corpus["speakers"]))
        facts.append((f"{count} speakers", f"{persian} گوینده"))
    if corpus.get("hours"):
        facts.append(figure(words.format_seconds(3600 * corpus["hours"])))
    return "".join(f", {english}" for english, _ in facts), "".join(f"، {persian}" for _, persian in facts)


def why(english: str) -> tuple[str, str]:
    """The error of a recording in both languages; English where there is no translation."""
    return english, next((persian for piece, persian in _REASONS.items() if piece in english), english)


def colours_of(labels: list[str]) -> dict[str, str]:
    """A colour for each class."""
    others = iter(_OTHER_COLOURS * len(labels))
    return {label: COLOURS.get(label.lower()) or next(others) for label in labels}
