// What the page can do with JavaScript beside what it does without: colours, local times, live updates, copying,
// selecting a range, and keys. Everything is fetched from the daemon as HTML.

const root = document.documentElement;
const base = root.dataset.base;

// ---- Choices that are remembered -------------------------------------------------------------------------------------

const remembered = {
  get(key, otherwise) {
    try { return localStorage.getItem("coordinated." + key) ?? otherwise; } catch { return otherwise; }
  },
  set(key, value) {
    try { localStorage.setItem("coordinated." + key, value); } catch { /* The browser keeps nothing. */ }
  },
};

let live = remembered.get("live", "on") === "on";
let localTimes = remembered.get("times", "utc") === "local";

/** Makes a button of the header that shows one of its values, and goes to the next one when it is pressed. */
function addSwitch(title, value, next) {
  const button = document.createElement("button");
  button.type = "button";
  const show = (shown) => { button.textContent = `${title}: ${shown}`; };
  show(value);
  button.addEventListener("click", () => show(next()));
  document.getElementById("tools").append(button);
  return button;
}

const themes = ["system", "light", "dark"];
let theme = themes.includes(root.dataset.theme) ? root.dataset.theme : "system";

addSwitch("Colours", theme, () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  const kept = theme === "system" ? "; Max-Age=0" : "; Max-Age=31536000";
  // The server writes it into each page, so that none is shown in other colours first.
  document.cookie = `coordinated-theme=${theme}; Path=${base}; SameSite=Strict${kept}`;
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  return theme;
});

addSwitch("Times", localTimes ? "local" : "UTC", () => {
  localTimes = !localTimes;
  remembered.set("times", localTimes ? "local" : "utc");
  showTimes();
  return localTimes ? "local" : "UTC";
});

const liveSwitch = addSwitch("Live", live ? "on" : "off", () => {
  live = !live;
  remembered.set("live", live ? "on" : "off");
  follow();
  return live ? "on" : "off";
});

// ---- Times -----------------------------------------------------------------------------------------------------------

const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** Shows the exact times on hover as the person wants them. */
function showTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    if (!Number.isNaN(date.getTime())) time.title = localTimes ? format.format(date) : time.dateTime;
  }
}

// ---- Live updates ----------------------------------------------------------------------------------------------------

const POLL_MS = 5000;
const lost = document.getElementById("lost");
const policy = globalThis.trustedTypes?.createPolicy("coordinated", { createHTML: (html) => html });
let stream = null;
let polling = null;
let fetching = false;
let isStale = false;

/** True while the person does something that new rows would disturb. */
function isBusy() {
  const active = document.activeElement;
  return document.querySelector("dialog[open], main input[type=checkbox]:checked") !== null
    || (active?.matches("main input, main select, main textarea") ?? false)
    || !(getSelection()?.isCollapsed ?? true);
}

/** Fetches the page again, and changes what has changed. */
async function refresh() {
  if (document.hidden || fetching || isBusy()) { isStale = true; return; }
  fetching = true;
  isStale = false;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
    lost.hidden = answer.status < 500;
    if (!answer.ok) return;
    const html = await answer.text();
    const page = new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html");
    const main = page.getElementById("main");
    if (isBusy()) isStale = true;
    else if (main) morph(main);
    document.title = page.title;
  } catch {
    lost.hidden = false;
  } finally {
    fetching = false;
    // Something has changed meanwhile.
    if (isStale && !isBusy()) setTimeout(refresh, 1000);
  }
}

function morph(main) {
  globalThis.Idiomorph.morph(document.getElementById("main"), main, {
    morphStyle: "outerHTML",
    callbacks: {
      beforeAttributeUpdated: (name, node) =>
        // What the person has opened or typed stays; copy buttons are ours.
        !(name === "open" && node.tagName === "DETAILS") && !(name === "value" && node.tagName === "INPUT"),
      beforeNodeRemoved: (node) => !(node.classList?.contains("copy") ?? false),
    },
  });
  dress();
}

/** Begins to follow changes, or ends it. */
function follow() {
  stream?.close();
  clearInterval(polling);
  stream = polling = null;
  if (!live || document.hidden || document.querySelector("main[data-still]")) return;
  stream = new EventSource(base + "events");
  stream.addEventListener("changed", refresh);
  stream.addEventListener("error", () => {
    // Closed for good: there are too many pages. Otherwise the browser tries again by itself.
    if (stream?.readyState === EventSource.CLOSED) {
      stream = null;
      polling ??= setInterval(refresh, POLL_MS);
    } else {
      refresh();
    }
  });
}

document.addEventListener("visibilitychange", () => {
  follow();
  if (!document.hidden && live) refresh();
});
addEventListener("pagehide", () => stream?.close());
// Once the person is done with what was in the way.
for (const event of ["change", "focusout", "pointerup"]) {
  document.addEventListener(event, () => { if (isStale && live) setTimeout(() => { if (!isBusy()) refresh(); }, 300); });
}

// ---- Copying ---------------------------------------------------------------------------------------------------------

/** Copies a text, also where the clipboard can't be used because the page came over plain HTTP. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/** Adds what pages get from here after they were made. */
function dress() {
  showTimes();
  for (const pre of document.querySelectorAll("pre[data-copy]")) {
    if (pre.nextElementSibling?.classList.contains("copy")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${pre.getAttribute("aria-label")}`);
    button.addEventListener("click", async () => {
      await copy(pre.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    pre.after(button);
  }
}

// ---- Selecting a range with shift ------------------------------------------------------------------------------------

let lastBox = null;
document.addEventListener("click", (event) => {
  const box = event.target;
  if (!(box instanceof HTMLInputElement) || box.type !== "checkbox" || box.name !== "unit") return;
  const boxes = [...document.querySelectorAll("input[name=unit]")];
  const [from, to] = [boxes.indexOf(lastBox), boxes.indexOf(box)].sort((one, other) => one - other);
  if (event.shiftKey && from >= 0) {
    for (const between of boxes.slice(from, to + 1)) between.checked = box.checked;
  }
  lastBox = box;
});

// ---- Keys ------------------------------------------------------------------------------------------------------------

// Those of the pages that this person may see, and then the others.
const keys = Object.fromEntries([...document.querySelectorAll("header nav a")].map(
  (link) => [link.dataset.key, [link.textContent, () => { location.href = link.href; }]]));
Object.assign(keys, {
  n: ["Next page of a list", () => document.querySelector("a[rel=next]")?.click()],
  u: ["Live updates on or off", () => liveSwitch.click()],
  "/": ["Filter units by name", () => document.getElementById("prefix")?.focus()],
  "?": ["This help", () => showHelp()],
});

function showHelp() {
  let dialog = document.getElementById("help");
  if (!dialog) {
    dialog = document.createElement("dialog");
    dialog.id = "help";
    dialog.setAttribute("aria-label", "Keys");
    const list = document.createElement("dl");
    for (const [key, [what]] of Object.entries(keys)) {
      const term = document.createElement("dt");
      const shown = document.createElement("kbd");
      shown.textContent = key;
      term.append(shown);
      const meaning = document.createElement("dd");
      meaning.textContent = what;
      list.append(term, meaning);
    }
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    dialog.append(list, close);
    document.body.append(dialog);
  }
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select, dialog")) return;
  const key = keys[event.key];
  if (!key) return;
  event.preventDefault();
  key[1]();
});

dress();
follow();
