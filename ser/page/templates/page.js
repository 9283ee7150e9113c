// The page in the browser: the switch of languages, Gradio's words, and playing of one part of a recording.
(() => {
  const LANGUAGES = ["en", "fa"];
  // Gradio takes its words from the browser's language, once; here they follow the switch. A selector, then the texts
  // within it in their order.
  const WORDS = [
    ["#ser-audio .record-button", ["Record"], ["ضبط صدا"]],
    ["#ser-audio .stop-button", ["Stop"], ["پایان ضبط"]],
    ["#ser-audio .stop-button-paused", ["Stop"], ["پایان ضبط"]],
    ["#ser-audio .resume-button", ["Resume"], ["ادامه‌ی ضبط"]],
    [
      "#ser-audio .wrap:has(> .or)",
      ["Drop audio here", "or", "click to choose a file"],
      ["فایل صوتی را اینجا رها کنید", "یا", "برای انتخاب فایل کلیک کنید"],
    ],
  ];
  // Buttons that Gradio shows as icons: a selector, then their names.
  const NAMES = [
    ["#ser-audio .source-selection button:nth-of-type(1)", "Upload a file", "بارگذاری فایل"],
    ["#ser-audio .source-selection button:nth-of-type(2)", "Microphone", "میکروفون"],
    ["#ser-audio .top-panel button", "Another recording", "صدایی دیگر"],
    ["#ser-audio .pause-button", "Pause", "مکث"],
    ["#ser-audio .mic-select", "Microphone", "میکروفون"],
    ["#ser-audio input[type=file]", "A file to upload", "فایلی برای بارگذاری"],
    [".player .toggle", "Play or pause", "پخش یا مکث"],
    [".player input", "Position", "جای پخش"],
  ];
  const page = document.documentElement;
  const stored = () => { try { return localStorage.getItem("ser-language"); } catch { return null; } };
  const store = (language) => { try { localStorage.setItem("ser-language", language); } catch { /* private window */ } };
  const digits = (text) => page.lang === "fa" ? String(text).replace(/[0-9]/g, (digit) => "۰۱۲۳۴۵۶۷۸۹"[digit]) : text;
  const set = (element, name, value) => { if (element.getAttribute(name) !== value) element.setAttribute(name, value); };

  function show(language) {
    set(page, "data-language", language);
    set(page, "lang", language);
    set(page, "dir", language === "fa" ? "rtl" : "ltr");
    const to = LANGUAGES.indexOf(language);
    translate(to);
    tellProgress(to);
    for (const button of document.querySelectorAll("button[data-language]"))
      set(button, "aria-pressed", String(button.dataset.language === language));
    for (const list of document.querySelectorAll(".segments")) hintAtMore(list);
    follow();
  }

  function translate(to) {
    for (const [selector, ...texts] of WORDS)
      for (const element of document.querySelectorAll(selector)) {
        element.closest("button").removeAttribute("aria-label"); // the words in it are its name
        const found = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
        for (const text of texts[to]) {
          while (found.nextNode() && !found.currentNode.data.trim());
          if (found.currentNode.data.trim() !== text) found.currentNode.data = text;
        }
      }
    for (const [selector, ...names] of NAMES)
      for (const element of document.querySelectorAll(selector))
        for (const name of ["data-text", "aria-label", "title"]) set(element, name, names[to]);
  }

  // Every error of a recording is an answer; Gradio's own come when the queue is full or the server is gone.
  // Gradio writes "queue: 2/5 | 3.1/28.0s", then "processing | 4.0/28.0s".
  function tellProgress(to) {
    const tracker = document.querySelector("#ser-answer [data-testid=status-tracker]");
    if (!tracker) return;
    const place = /queue: *([0-9]+)\/([0-9]+)/.exec(tracker.textContent);
    const busy = ["Listening …", "در حال شنیدن …"][to];
    const waiting = place && [`Waiting: ${place[1]} of ${place[2]}`, `در صف: ${place[1]} از ${place[2]}`][to];
    const refused = tracker.querySelector(".clear-status") && [
      "Too many recordings are waiting, or the connection broke. Try again in a minute.",
      "فایل‌های زیادی در صف است یا ارتباط قطع شده. یک دقیقه دیگر دوباره امتحان کنید.",
    ][to];
    set(tracker, "data-text", digits(refused || waiting || busy));
  }

  function hintAtMore(list) {
    const below = list.scrollHeight - list.scrollTop - list.clientHeight;
    list.parentElement.classList.toggle("more", below > 4);
  }

  function play(start, end) {
    const player = document.querySelector(".ser-player");
    player.currentTime = start;
    player.dataset.until = end;
    player.play();
  }

  function toggle() {
    const player = document.querySelector(".ser-player");
    delete player.dataset.until;
    if (player.paused) player.play();
    else player.pause();
  }

  const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

  // Parts that touch share a border, and a player's clock comes four times a second: frames are closer.
  function follow() {
    const player = document.querySelector(".ser-player");
    if (!player) return;
    const now = player.currentTime;
    if (player.dataset.until && now >= Number(player.dataset.until)) {
      delete player.dataset.until;
      player.pause();
    }
    const bar = player.closest(".player");
    bar.classList.toggle("playing", !player.paused);
    bar.querySelector("input").value = now;
    const time = digits(`${clock(now)} / ${clock(Number(player.dataset.seconds))}`);
    if (bar.querySelector(".time").textContent !== time) bar.querySelector(".time").textContent = time;
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
    if (event.target.closest(".player .toggle")) toggle();
    const example = event.target.closest("button[data-example]");
    if (example) document.querySelectorAll("#ser-examples .gallery button")[example.dataset.example].click();
  });
  for (const name of ["play", "pause", "seeked", "timeupdate"]) document.addEventListener(name, follow, true);
  document.addEventListener("input", (event) => {
    const bar = event.target.closest(".player");
    if (bar) bar.querySelector("audio").currentTime = event.target.value;
  });
  document.addEventListener("scroll", (event) => event.target.matches?.(".segments") && hintAtMore(event.target), true);

  const asked = new URLSearchParams(location.search).get("lang") ?? stored() ?? navigator.language.slice(0, 2);
  show(LANGUAGES.includes(asked) ? asked : "en");
  const changes = { childList: true, subtree: true, characterData: true };
  new MutationObserver(() => show(page.dataset.language)).observe(document.body, changes);
})();
