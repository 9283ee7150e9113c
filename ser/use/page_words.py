"""The words of the page, in English and Persian; a text is made in both, and the style sheet shows one."""

from typing import Any

from markupsafe import Markup, escape

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
# Known emotions have a colour of their own, so that two models paint alike; always beside the name.
COLOURS = {
    "anger": "#c2410c",
    "boredom": "#8a6d3b",
    "calm": "#3f8f8b",
    "disgust": "#6b7f1e",
    "fear": "#7c4dbd",
    "happiness": "#c98a00",
    "neutral": "#6b7684",
    "sadness": "#1d5fa6",
    "surprise": "#17875e",
}
_OTHER_COLOURS = ("#b0366f", "#2f7d95", "#75631c", "#5457b5", "#9a4a3c", "#4b7a3f")
_TEXTS = {
    "title": ("How does this voice sound?", "این صدا چه حسی دارد؟"),
    "intro": (
        "Record or upload speech; the answer comes by itself. {model}",
        "صدایی ضبط یا بارگذاری کنید؛ پاسخ خودبه‌خود می‌آید. {model}",
    ),
    "examples": ("Or try an example", "یا یک نمونه را امتحان کنید"),
    "waiting": ("The answer appears here.", "پاسخ اینجا نمایش داده می‌شود."),
    "verdict": ("{label}, {score}", "{label}، {score}"),
    "not_sure": ("Not sure", "مطمئن نیستم"),
    "perhaps": ("perhaps {label}, {score}", "شاید {label}، {score}"),
    "whole": ("The whole recording, {length}", "کل فایل صوتی، {length}"),
    "timeline": ("What is heard when", "چه چیزی کِی شنیده می‌شود"),
    "click": ("Click a part to hear it.", "برای شنیدن هر بخش روی آن کلیک کنید."),
    "hear": ("Hear {start} to {end}", "پخش از {start} تا {end}"),
    "listen": ("What the model heard", "آنچه مدل شنید"),
    "download": ("Download", "دریافت"),
    "subtitles": ("subtitles (SRT)", "زیرنویس (SRT)"),
    "table": ("table (CSV)", "جدول (CSV)"),
    "bad": ("This recording cannot be used", "این فایل قابل استفاده نیست"),
    "again": ("Choose another one above.", "فایل دیگری را از بالا انتخاب کنید."),
    "limits": ("Before you trust it", "پیش از آنکه اعتماد کنید"),
    "trained": ("Trained on {corpus}.", "آموزش‌دیده روی {corpus}."),
    "hours": ("{hours} of speech", "{hours} گفتار"),
    "speakers": ("{count} speakers", "{count} گوینده"),
    "language": ("language: {language}", "زبان: {language}"),
    "guessing": ("guessing would give {chance}", "حدس تصادفی: {chance}"),
    "best": (
        "It finds {best} best (recall {high}) and {worst} worst (recall {low}).",
        "{best} را بهتر از همه می‌یابد (بازیابی {high}) و {worst} را بدتر از همه (بازیابی {low}).",
    ),
    "dependent": (
        "Voices of the test may have been heard in training: expect less on new voices.",
        "شاید صداهای آزمون در آموزش هم بوده‌اند: برای صداهای تازه انتظار کمتری داشته باشید.",
    ),
    "no_results": (
        "This model comes without figures: nobody can say how often it is right.",
        "این مدل هیچ آماری همراه ندارد: معلوم نیست چند بار درست می‌گوید.",
    ),
    "calibrated": (
        "Percentages are probabilities, calibrated on speech like that of its corpus.",
        "درصدها احتمال‌اند و روی گفتاری مانند پیکره‌ی آموزش کالیبره شده‌اند.",
    ),
    "uncalibrated": (
        "Percentages are the model's own and not calibrated: do not read them as probabilities.",
        "درصدها خام‌اند و کالیبره نشده‌اند: آن‌ها را احتمال نپندارید.",
    ),
    "threshold": (
        "Under {threshold} it says “not sure”. Above, 9 answers in 10 were right on held-out clips.",
        "زیر {threshold} می‌گوید «مطمئن نیستم». بالاتر از آن، از هر ۱۰ پاسخ روی داده‌ی کنارگذاشته ۹ تا درست بود.",
    ),
    "no_threshold": (
        "No confidence above which it is right 9 times in 10 is known, so every answer is shown, however unsure.",
        "آستانه‌ای که بالای آن از هر ۱۰ پاسخ ۹ تا درست باشد شناخته نیست؛ پس هر پاسخی، هرچند نامطمئن، نشان داده می‌شود.",
    ),
    "feels": (
        "It says how a voice sounds to some listeners, not what a person feels. Other languages, ages and "
        "microphones than those of its corpus are not covered.",
        "می‌گوید صدا به گوش برخی شنوندگان چگونه است، نه اینکه شخص چه احساسی دارد. زبان‌ها، سن‌ها و میکروفون‌هایی "
        "جز آنچه در پیکره بوده پوشش داده نشده‌اند.",
    ),
    "law": (
        "Not for decisions about people. In the EU, inferring emotions at work or in education is prohibited except "
        "for medical or safety reasons (AI Act, Article 5(1)(f)); elsewhere those exposed must be told (Article 50(3)).",
        "برای تصمیم درباره‌ی اشخاص نیست. در اتحادیه‌ی اروپا تشخیص احساسات در محل کار و آموزش، جز به دلایل پزشکی یا "
        "ایمنی، ممنوع است (قانون هوش مصنوعی، بند ۵(۱)(f))؛ در جاهای دیگر باید به افراد اطلاع داد (بند ۵۰(۳)).",
    ),
    "kept": (
        "Recordings go to the computer that serves this page, and are deleted from it within two hours.",
        "فایل‌ها به رایانه‌ای که این صفحه را ارائه می‌دهد فرستاده و حداکثر تا دو ساعت بعد پاک می‌شوند.",
    ),
}
# What the errors of `read_blocks` and the pipeline say, by a piece of each.
_REASONS = {
    "0 bytes": "فایل خالی است (۰ بایت).",
    "is not audio": "این فایل صوتی نیست.",
    "holds no sample": "هیچ نمونه‌ی صوتی ندارد.",
    "too short": "بیش از حد کوتاه است.",
    "is silent": "سکوت کامل است؛ دوباره ضبط کنید.",
    "NaN": "نمونه‌های نامعتبر (NaN) دارد.",
    "cut off": "ناقص یا آسیب‌دیده است؛ دوباره کپی کنید.",
    "ffmpeg": "برای m4a و ویدئو برنامه‌ی ffmpeg لازم است؛ به WAV، FLAC، OGG یا MP3 تبدیل کنید.",
}
_DIGITS = str.maketrans("0123456789%", "۰۱۲۳۴۵۶۷۸۹٪")


def both(english: Any, persian: Any) -> Markup:
    """A text in both languages; what is not `Markup` is escaped."""
    spans = '<span class="en" lang="en" dir="ltr">{}</span><span class="fa" lang="fa" dir="rtl">{}</span>'
    return Markup(spans).format(english, persian)


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
    """A figure with the digits of each language."""
    return text, text.translate(_DIGITS)


def why(english: str) -> tuple[str, str]:
    """What is wrong with a recording, in both languages; where no translation is known, in English."""
    return english, next((persian for piece, persian in _REASONS.items() if piece in english), english)


def colours_of(labels: list[str]) -> dict[str, str]:
    """A colour for each class."""
    others = iter(_OTHER_COLOURS * len(labels))
    return {label: COLOURS.get(label.lower()) or next(others) for label in labels}
