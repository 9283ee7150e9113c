// The page in the browser: the switch of languages, and playing of one part of a recording.
(() => {
  const LANGUAGES = ["en", "fa"];
  // Gradio takes these from the browser's language, once; here they follow the switch.
  const WORDS = [
    ["Drop Audio Here", "فایل صوتی را اینجا رها کنید"],
    ["- or -", "- یا -"],
    ["Click to Upload", "برای بارگذاری کلیک کنید"],
    ["Record", "ضبط"],
    ["Stop", "توقف"],
    ["Pause", "مکث"],
    ["Resume", "ادامه"],
    ["No microphone found", "میکروفونی یافت نشد"],
    ["Uploading...", "در حال بارگذاری..."],
  ];
  const page = document.documentElement;
  const stored = () => { try { return localStorage.getItem("ser-language"); } catch { return null; } };
  const store = (language) => { try { localStorage.setItem("ser-language", language); } catch { /* private window */ } };

  function show(language) {
    page.dataset.language = language;
    page.lang = language;
    page.dir = language === "fa" ? "rtl" : "ltr";
    translate();
    for (const button of document.querySelectorAll("[data-language]"))
      if (button !== page) button.setAttribute("aria-pressed", button.dataset.language === language);
  }

  function translate() {
    const area = document.getElementById("ser-audio");
    if (!area) return;
    const to = LANGUAGES.indexOf(page.dataset.language);
    const texts = document.createTreeWalker(area, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const words = WORDS.find((pair) => pair.includes(texts.currentNode.data.trim()));
      if (words && texts.currentNode.data.trim() !== words[to]) texts.currentNode.data = words[to];
    }
  }

  function play(start, end) {
    const player = document.querySelector(".ser-player");
    player.currentTime = start;
    player.dataset.until = end;
    player.play();
  }

  // Parts that touch share a border, and a player's clock comes four times a second: frames are closer.
  function follow() {
    const player = document.querySelector(".ser-player");
    if (!player) return;
    const now = player.currentTime;
    if (player.dataset.until && now >= Number(player.dataset.until)) {
      delete player.dataset.until;
      player.pause();
    }
    const head = document.querySelector(".playhead");
    if (head) {
      head.hidden = now === 0;
      head.style.left = `${(100 * now) / Number(player.dataset.seconds)}%`;
    }
    for (const part of document.querySelectorAll("[data-start]"))
      part.classList.toggle("playing", !player.paused && now >= part.dataset.start && now < part.dataset.end);
    if (!player.paused) requestAnimationFrame(follow);
  }

  document.addEventListener("click", (event) => {
    const language = event.target.closest("button[data-language]");
    if (language) {
      store(language.dataset.language);
      show(language.dataset.language);
    }
    const part = event.target.closest("[data-start]");
    if (part) play(Number(part.dataset.start), Number(part.dataset.end));
  });
  for (const name of ["play", "pause", "seeked"]) document.addEventListener(name, follow, true);

  const asked = new URLSearchParams(location.search).get("lang") ?? stored() ?? navigator.language.slice(0, 2);
  const first = LANGUAGES.includes(asked) ? asked : "en";
  show(first);
  new MutationObserver(() => show(page.dataset.language)).observe(document.body, { childList: true, subtree: true });
})();
