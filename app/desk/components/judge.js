// The judging component: what is on screen is what a key judges, and nothing else.
//
// The server deals a deck of pairs; the first is shown. A key writes {seq, pair, choice} into the
// outbox, and the next pair of the deck is shown at once. The outbox is sent whole until the server
// has acknowledged its entries, so nothing is lost and nothing is done twice. Two rules:
// a pair takes a key only after it has been on screen for SEEN milliseconds, and the server never
// replaces the pair on screen while it can still be judged.

const SEEN = 150;
const RESEND = 4000;
const KEPT_IMAGES = 240;
const MODES = ["fit", "full size", "pixels"];

// Shared by all pages of this tab: the module is loaded once.
let session = null;
let epoch = 0;
let seq = 0;
let outbox = [];
let mounted = null;
const images = new Map();
const drafts = new Map();

export default function ({ data, parentElement, setTriggerValue }) {
  if (!mounted || mounted.parent !== parentElement) {
    mounted?.close();
    mounted = new (data.mode === "grid" ? Grid : Pairs)(parentElement);
  }
  mounted.trigger = setTriggerValue;
  mounted.take(data);
  const mine = mounted;
  return () => {
    mine.close();
    if (mounted === mine) mounted = null;
  };
}

function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "html") made.innerHTML = value; // markup that the server made and escaped
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

const FIELDS = "input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable],"
  + " [role=slider], [role=listbox], [role=combobox], [role=dialog]:not(.judge)";
const typing = (at) => Boolean(at?.closest?.(FIELDS)) && !at.closest(".judge-help");

class Judge {
  constructor(parent) {
    this.parent = parent;
    this.data = null;
    this.awaited = 0; // the sequence number that the server must have reached before we go on
    this.help = null;
    this.root = h("div", { class: "judge" });
    parent.append(this.root);
    this.stop = new AbortController();
    const { signal } = this.stop;
    document.addEventListener("keydown", (event) => this.key(event), { signal, capture: true });
    document.addEventListener("keyup", (event) => this.keyup(event), { signal, capture: true });
    for (const kind of ["focusin", "focusout"])
      document.addEventListener(kind, () => setTimeout(() => this.status()), { signal });
    window.addEventListener("beforeunload", (event) => {
      if (outbox.length) event.preventDefault();
    }, { signal });
    // A button keeps no focus from a click: Space would press it again.
    this.root.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button")) event.preventDefault();
    }, { signal });
    const again = setInterval(() => {
      if (outbox.length && performance.now() - this.sentAt > RESEND) this.send();
    }, 1000);
    signal.addEventListener("abort", () => clearInterval(again));
  }

  close() {
    this.stop.abort();
    this.root.remove();
  }

  /** What the server drew. */
  take(data) {
    const lost = session && session !== data.session ? outbox.length : 0;
    if (data.session !== session || data.epoch !== epoch) {
      this.refused = session === data.session;
      ({ session, epoch } = data);
      seq = data.ack;
      outbox = [];
      if (this.refused) this.awaited = data.ack;
    } else this.refused = false;
    seq = Math.max(seq, data.ack);
    outbox = outbox.filter((action) => action.seq > data.ack);
    for (const [name, image] of Object.entries(data.images)) {
      images.delete(name);
      images.set(name, image);
      if (image.src) new Image().src = image.src;
    }
    this.fresh = data.scope !== this.data?.scope;
    this.data = data;
    this.root.dataset.mode = data.mode;
    if (outbox.length && this.fresh) this.send(); // sent from a page that was left
    this.merge(data);
    this.draw();
    this.status();
    if (lost) this.say(`The desk was started anew, and your last ${lost} were not saved; press again.`);
  }

  act(action) {
    seq += 1;
    outbox.push({ seq, ...action });
    this.send();
    this.status();
  }

  /** The server decides what is shown next: no key counts until it has answered. */
  wait() {
    this.awaited = seq;
  }

  get waiting() {
    return this.awaited > this.data.ack;
  }

  send() {
    const used = this.used.flatMap((card) => card.sides.map((side) => side.image));
    for (const name of [...images.keys()].slice(0, Math.max(0, images.size - KEPT_IMAGES)))
      if (!used.includes(name.slice(0, name.lastIndexOf("@")))) images.delete(name);
    this.sentAt = performance.now();
    this.trigger("sent", { session, epoch, have: [...images.keys()], actions: outbox });
  }

  key(event) {
    const { key } = event;
    if (typing(event.target)) {
      const leave = key === "Escape" || (key === "Enter" && event.target.closest(".judge"));
      if (leave && event.target.matches("input, textarea")) event.target.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "Escape") return this.leave(event);
    const found = this.keys().find((one) => one.key.toLowerCase() === key.toLowerCase());
    if (!found) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    // A key that is held down repeats, and would judge pair after pair unseen.
    if (!event.repeat) found.act(event.timeStamp);
  }

  keyup() {}

  leave() {
    this.help?.remove();
    this.help = null;
    this.say("");
  }

  say(text) {
    if (!text) this.asked = null; // a question that was passed over is asked again
    const place = this.root.querySelector(".judge-say");
    if (place) place.textContent = text;
  }

  status() {
    const place = this.root.querySelector(".desk-keys");
    if (!place || !this.data) return;
    const state = typing(document.activeElement) ? "typing" : this.ready() ? "ready" : "wait";
    const words = { typing: "keys off: you are typing", ready: "keys ready · ? lists them" };
    this.root.dataset.state = state;
    this.root.dataset.unsaved = outbox.length;
    place.textContent = words[state] ?? "loading";
    const left = outbox.filter((action) => action.do !== "look").length;
    const saving = this.root.querySelector(".judge-saving");
    if (saving) saving.textContent = left ? `${left} not saved yet` : "";
  }

  undo() {
    const last = this.data.undo;
    if (outbox.length) return; // what an undo takes back is known once all is saved
    if (!last) return this.say("You have no verdict to undo here.");
    if (last.pairs > 1 && this.asked !== last.id && this.data.mode !== "grid") {
      this.asked = last.id;
      return this.say(`Your last verdict covers ${last.pairs} pairs. Press Z again to undo it.`);
    }
    this.say("");
    this.act({ do: "undo", id: last.id });
    this.wait();
  }

  showHelp() {
    if (this.help) return this.leave();
    const rows = this.keys().filter((one) => one.help).map((one) =>
      h("tr", {}, h("td", {}, h("kbd", {}, one.sign ?? one.key.toUpperCase())), h("td", {}, one.help))
    );
    rows.push(h("tr", {}, h("td", {}, h("kbd", {}, "Esc")), h("td", {}, "Leave a field, or close")));
    this.help = h("div", { class: "judge-help", role: "dialog", "aria-label": "Keys" },
      h("b", {}, "Keys"), h("table", {}, h("tbody", {}, ...rows)),
      h("button", { type: "button", onclick: () => this.leave() }, "Close"));
    this.root.append(this.help);
  }

  button(word, key, act, more = {}) {
    const label = key ? [word, h("kbd", { "aria-hidden": "true" }, key)] : [word];
    return h("button", { type: "button", "data-word": word, onclick: (event) => act(event.timeStamp),
      ...more }, ...label);
  }

  head(data) {
    return [
      h("div", { class: "desk-row" },
        h("span", { class: "desk-place" }), h("span", { class: "desk-quiet judge-note" }),
        h("span", { class: "desk-keys" }), h("span", { class: "judge-saving" }),
        h("span", { class: "desk-quiet desk-saved", id: "desk-saved" })),
      h("div", { class: "desk-bar" }, h("span")),
    ];
  }

  drawHead(place) {
    const { status } = this.data;
    this.root.querySelector(".desk-place").textContent = place;
    this.root.querySelector(".judge-note").textContent = status.note;
    this.root.querySelector(".desk-saved").innerHTML = status.saved;
    const bar = this.root.querySelector(".desk-bar > span");
    if (bar) bar.style.width = `${100 * status.done}%`;
  }
}

/** One pair at a time: Queue, Pair and Audit. */
class Pairs extends Judge {
  constructor(parent) {
    super(parent);
    this.deck = [];
    this.trail = []; // judged here, newest last: what Z returns to at once
    this.seenAt = null;
    this.swapped = this.open = null; // a pair
    this.mode = 0;
    this.move = { x: 0, y: 0, z: 1 };
    this.root.append(
      ...this.head(),
      h("div", { class: "judge-say", role: "status" }),
      h("div", { class: "judge-prompt" }),
      h("div", { class: "desk-pair" }),
      h("div", { class: "desk-chips" }),
      h("div", { class: "judge-row", role: "group", "aria-label": "Verdicts" }),
      h("div", { class: "judge-aside" }),
      h("span", { id: "desk-ready", hidden: true }),
    );
    const pair = this.root.querySelector(".desk-pair");
    pair.addEventListener("click", (event) => {
      if (!this.zoomed && event.target.closest(".desk-mount img")) this.zoom();
    });
    pair.addEventListener("wheel", (event) => {
      if (!this.zoomed) return;
      event.preventDefault();
      const factor = Math.exp(-event.deltaY / 400);
      this.move.z = Math.min(64, Math.max(0.25, this.move.z * factor));
      this.place();
    }, { passive: false });
    pair.addEventListener("pointermove", (event) => {
      if (!this.zoomed || !event.buttons) return;
      const mount = event.target.closest(".desk-mount");
      if (!mount) return;
      this.move.x += event.movementX / mount.clientWidth;
      this.move.y += event.movementY / mount.clientHeight;
      this.place();
    });
    window.addEventListener("resize", () => this.place(), { signal: this.stop.signal });
    pair.addEventListener("dragstart", (event) => event.preventDefault());
  }

  get card() {
    return this.deck[0];
  }

  get zoomed() {
    return this.root.classList.contains("zoomed");
  }

  get used() {
    return this.deck;
  }

  /** Whether a key pressed at `when` was pressed with this pair on screen. */
  ready(when = performance.now()) {
    return Boolean(this.card) && !this.waiting && this.seenAt !== null
      && when - this.seenAt >= SEEN;
  }

  merge(data) {
    const judged = outbox.filter((action) => action.do === "verdict").map((action) => action.pair);
    const dealt = data.cards.filter((card) => !judged.includes(card.pair));
    const current = this.card;
    if (this.fresh || this.refused) this.trail = [];
    if (this.waiting) return;
    if (this.fresh || !current || this.awaited) {
      if (outbox.length && !dealt.length) return;
      this.deck = this.fresh || this.awaited ? data.cards : dealt;
      this.awaited = 0;
      return;
    }
    // The pair on screen stays; the server only says what comes after it.
    const at = dealt.findIndex((card) => card.pair === current.pair);
    if (at >= 0) this.deck = dealt.slice(at);
    else if (!outbox.length) this.deck = [current, ...dealt];
  }

  sides(card) {
    return this.swapped === card.pair ? [card.sides[1], card.sides[0]] : card.sides;
  }

  draft(card = this.card) {
    const name = `${card.pair} ${card.blind}`;
    if (!drafts.has(name)) drafts.set(name, { note: card.note, reasons: [...card.reasons] });
    return drafts.get(name);
  }

  verdict(answer, when) {
    if (!this.ready(when)) return;
    const { card } = this;
    const sides = this.sides(card).map((side) => side.slot);
    const choice = { left: sides[0], right: sides[1] }[answer.choice] ?? answer.choice;
    const { note, reasons } = this.draft();
    this.say("");
    this.trail.push(card);
    this.act({ do: "verdict", pair: card.pair, choice, sides, note, reasons });
    if (this.data.stays) this.wait();
    else this.deck.shift();
    this.draw();
  }

  undo() {
    if (this.waiting) return;
    const card = this.data.stays ? null : this.trail.pop();
    if (!card?.sides.every((side) => this.image(side))) return super.undo();
    this.say("");
    this.deck.unshift(card);
    this.act({ do: "undo", pair: card.pair });
    this.draw();
  }

  ask(action) {
    if (this.waiting) return;
    this.act(action);
    this.wait();
    this.status();
  }

  keys() {
    const { data, card } = this;
    const answers = (card?.answers ?? []).map((answer) => ({
      key: answer.key, help: answer.help, act: (when) => this.verdict(answer, when),
    }));
    const all = [...answers, { key: "z", help: "Undo your last verdict", act: () => this.undo() }];
    if (card && data.moves) all.push(
      { key: "ArrowLeft", sign: "←", help: "The pair before", act: () => this.go(true) },
      { key: "ArrowRight", sign: "→", help: "The next pair, without a verdict",
        act: () => this.go(false) },
      { key: "b", help: card.blind ? "End blind judging" : "Judge blind: label and scores hidden",
        act: () => this.ask({ do: "blind" }) });
    if (card) all.push(
      { key: "s", help: "Swap the sides", act: () => this.swap() },
      { key: "o", help: "Zoom in and out", act: () => this.zoom() },
      { key: "p", help: "Fit, full size, pixels", act: () => this.turnMode() },
      { key: "v", help: "Hold: the other image in the same place",
        act: () => this.root.classList.add("other") },
      { key: "y", help: "The difference of the two images",
        act: () => this.root.classList.toggle("difference") });
    if (card && data.reasons.length) all.push({ key: "c", help: "Write a note",
      act: () => this.root.querySelector(".judge-note-field").focus() });
    if (card?.blurred) all.push({ key: "x", help: "Uncover", act: () => this.uncover() });
    return [...all, { key: "?", help: "These keys", act: () => this.showHelp() }];
  }

  keyup(event) {
    if (event.key.toLowerCase() === "v") this.root.classList.remove("other");
  }

  leave() {
    const open = this.help;
    super.leave();
    if (!open && this.zoomed) this.zoom();
  }

  go(back) {
    this.ask({ do: "go", pair: this.card.pair, back });
  }

  swap() {
    this.swapped = this.swapped === this.card.pair ? null : this.card.pair;
    this.draw();
  }

  uncover() {
    this.open = this.card.pair;
    this.drawn = null;
    this.draw();
  }

  zoom() {
    this.root.classList.toggle("zoomed");
    this.root.classList.remove("difference", "other");
    [this.mode, this.move] = [0, { x: 0, y: 0, z: 1 }];
    for (const [name, value] of [["role", "dialog"], ["aria-label", "Zoom"]])
      this.zoomed ? this.root.setAttribute(name, value) : this.root.removeAttribute(name);
    this.look();
    this.drawRow();
    this.place();
  }

  turnMode() {
    if (!this.zoomed) this.zoom();
    this.mode = (this.mode + 1) % MODES.length;
    this.move = { x: 0, y: 0, z: 1 };
    this.drawRow();
    this.place();
  }

  /** Ask for the originals of a zoomed pair, where the images on screen are smaller. */
  look() {
    const { card } = this;
    if (!this.zoomed || !card || this.looked === card.pair) return;
    const small = card.sides.some((side) => this.image(side)?.smaller);
    if (!small) return;
    this.looked = card.pair;
    this.act({ do: "look", pair: card.pair });
  }

  image(side) {
    return images.get(`${side.image}@full`) ?? images.get(`${side.image}@card`);
  }

  draw() {
    const { card } = this;
    const marker = this.root.querySelector("#desk-ready");
    this.root.classList.toggle("empty", !card);
    marker.dataset.pair = card?.pair ?? "";
    if (!card) {
      this.drawHead(this.data.status.place ?? "");
      this.root.querySelector(".judge-prompt").replaceChildren(
        this.data.cards.length || outbox.length ? "loading ..." : this.data.empty);
      this.root.querySelector(".desk-pair").replaceChildren();
      this.root.querySelector(".desk-chips").replaceChildren();
      this.drawn = this.drawing = this.seenAt = null;
      this.drawRow();
      return this.status();
    }
    this.drawHead(card.place);
    const look = `${card.pair} ${this.swapped === card.pair} ${card.blind}`;
    if (look !== this.drawn) {
      this.drawn = look;
      this.drawPair(card);
    }
    this.root.querySelector(".desk-chips").innerHTML = card.chips;
    this.drawRow();
    this.showOriginals();
    this.look();
    this.status();
  }

  drawPair(card) {
    const size = card.prompt.length > 150 ? " long" : "";
    const shown = card.prompt.trim() ? card.prompt : h("i", {}, "(the prompt is empty)");
    const prompt = h("div", { class: `desk-prompt${size}`, dir: "auto" }, h("span", {}, shown));
    const more = h("button", { type: "button", class: "judge-more", "aria-expanded": "false",
      onclick: () => {
        const open = prompt.classList.toggle("open");
        more.setAttribute("aria-expanded", open);
        more.textContent = open ? "Less" : "All of the prompt";
      } }, "All of the prompt");
    this.root.querySelector(".judge-prompt").replaceChildren(prompt, more);
    more.hidden = prompt.scrollHeight <= prompt.clientHeight + 2;
    const sides = this.sides(card);
    const blurred = card.blurred && this.open !== card.pair;
    this.root.querySelector(".desk-pair").replaceChildren(
      ...sides.map((side, k) => this.figure(side, sides[1 - k], k, card, blurred)));
    this.root.classList.remove("difference", "other");
    this.move = { x: 0, y: 0, z: 1 };
    this.place();
    this.drawAside(card);
    this.seen();
  }

  figure(side, other, k, card, blurred) {
    const name = card.blind ? ["left", "right"][k] : side.slot;
    const image = this.image(side);
    const mark = card.blind ? "" : side.mark;
    const kind = ["chosen", "tie"].includes(mark) ? mark : "plain";
    const inside = image.problem
      ? [h("div", { class: "desk-missing" }, h("b", {}, `${name} cannot be shown`),
          `${image.problem}; you can still give a verdict.`)]
      : [this.img(side, "own", `${name} of the pair`)];
    if (!image.problem && !this.image(other).problem) inside.push(this.img(other, "another", ""));
    if (blurred) inside.push(h("span", { class: "desk-curtain" },
      "The source marks this pair as unsafe; X uncovers it."));
    return h("figure", { class: `desk-card ${kind}${blurred ? " blurred" : ""}` },
      h("figcaption", {}, h("span", { class: "slot" }, name),
        h("span", { class: "maker" }, card.blind ? "" : side.model), h("span", { class: "word" }, mark)),
      h("div", { class: "desk-mount" }, ...inside));
  }

  img(side, kind, alt) {
    const image = this.image(side);
    const small = Math.max(image.width, image.height) <= 128 ? " pixel" : "";
    const made = h("img", { class: kind + small, src: image.src, alt, "data-image": side.image,
      "aria-hidden": kind === "another" ? "true" : null });
    made.side = side;
    return made;
  }

  /** Note when both images are painted: from then on the pair can be judged. */
  async seen() {
    const drawing = (this.drawing = {});
    this.seenAt = null;
    const all = [...this.root.querySelectorAll(".desk-mount img.own")];
    await Promise.all(all.map((img) => img.decode().catch(() => {})));
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    await frame();
    await frame();
    if (this.drawing !== drawing) return;
    this.seenAt = performance.now();
    setTimeout(() => this.status(), SEEN);
  }

  showOriginals() {
    for (const img of this.root.querySelectorAll(".desk-mount img")) {
      const { src } = this.image(img.side) ?? {};
      if (src && img.src !== src) img.src = src;
    }
    this.place();
  }

  /** Both images move together: fit, one pixel of the screen for each of theirs, or eight. */
  place() {
    for (const img of this.root.querySelectorAll(".desk-mount img")) {
      const mount = img.parentElement;
      const image = this.image(img.side);
      const fit = Math.min(mount.clientWidth / image.width, mount.clientHeight / image.height);
      const one = 1 / (fit * window.devicePixelRatio);
      const scale = this.move.z * [1, one, 8 * one][this.mode];
      const { x, y } = this.move;
      img.style.transform = this.zoomed
        ? `translate(${100 * x}%, ${100 * y}%) scale(${scale})` : "";
      img.classList.toggle("hard", this.zoomed && scale * fit >= 2);
    }
  }

  drawRow() {
    const { card, data } = this;
    const row = [];
    if (card && data.moves) row.push(this.button("Back", "←", () => this.go(true), { class: "quiet" }));
    for (const answer of card?.answers ?? [])
      row.push(this.button(answer.word, answer.key, (when) => this.verdict(answer, when),
        answer.current ? { class: "current", "aria-pressed": "true" } : {}));
    row.push(this.button("Undo", "Z", () => this.undo(), { class: "quiet" }));
    if (card && data.moves) row.push(this.button("Next", "→", () => this.go(false), { class: "quiet" }));
    if (card && this.zoomed) {
      row.push(this.button(MODES[this.mode], "P", () => this.turnMode(), { class: "quiet" }));
      row.push(this.button("Close", "O", () => this.zoom(), { class: "quiet" }));
    }
    this.root.querySelector(".judge-row").replaceChildren(...row);
    if (!card) this.root.querySelector(".judge-aside").replaceChildren();
  }

  drawAside(card) {
    const draft = this.draft(card);
    const tags = this.data.reasons.map((tag) => {
      const pill = h("button", { type: "button", class: "judge-tag",
        "aria-pressed": String(draft.reasons.includes(tag)),
        onclick: () => {
          const on = draft.reasons.includes(tag);
          draft.reasons = on ? draft.reasons.filter((one) => one !== tag) : [...draft.reasons, tag];
          pill.setAttribute("aria-pressed", String(!on));
        } }, tag);
      return pill;
    });
    const note = h("input", { class: "judge-note-field", type: "text", maxlength: 500,
      placeholder: "Note, saved with the verdict", "aria-label": "Note",
      oninput: (event) => { draft.note = event.target.value; } });
    note.value = draft.note;
    const tools = [this.button("Swap", "S", () => this.swap(), { class: "quiet" }),
      this.button("Zoom", "O", () => this.zoom(), { class: "quiet" }),
      this.button("Keys", "?", () => this.showHelp(), { class: "quiet" })];
    if (this.data.moves) tools.splice(1, 0, this.button(card.blind ? "End blind" : "Blind", "B",
      () => this.ask({ do: "blind" }), { class: "quiet" }));
    if (card.blurred && this.open !== card.pair)
      tools.unshift(this.button("Uncover", "X", () => this.uncover(), { class: "quiet" }));
    this.root.querySelector(".judge-aside").replaceChildren(
      ...(this.data.reasons.length ? [h("div", { class: "judge-tags" }, ...tags), note] : []), ...tools);
  }
}

/** Many pairs at once: one verdict for those that are selected. */
class Grid extends Judge {
  constructor(parent) {
    super(parent);
    this.selected = new Set();
    this.root.append(
      ...this.head(), h("div", { class: "judge-say", role: "status" }),
      h("div", { class: "judge-row", role: "group", "aria-label": "Verdicts for the selection" }),
      h("div", { class: "judge-cells" }), h("span", { id: "grid-ready", hidden: true }));
  }

  merge(data) {
    if (this.fresh || (this.cleared && data.ack >= this.cleared && !this.refused)) {
      this.selected.clear();
      this.cleared = 0;
    }
  }

  get used() {
    return this.data.cards;
  }

  ready() {
    return !this.waiting;
  }

  judge(answer) {
    if (this.waiting) return;
    if (!this.selected.size) return this.say("Select pairs first: click them, or press A.");
    this.say("");
    this.act({ do: "verdicts", pairs: [...this.selected].sort(), verdict: answer.verdict });
    this.cleared = seq;
    this.wait();
    this.status();
  }

  turn(back) {
    const at = back ? this.data.before : this.data.after;
    if (this.waiting || at == null) return;
    this.act({ do: "turn", at, back });
    this.wait();
    this.status();
  }

  select(pairs) {
    this.selected = new Set(pairs);
    this.draw();
  }

  keys() {
    return [
      ...this.data.answers.map((answer) => ({
        key: answer.key, help: `${answer.help}: the selected pairs`, act: () => this.judge(answer) })),
      { key: "z", help: "Undo your last verdict", act: () => this.waiting || this.undo() },
      { key: "ArrowLeft", sign: "←", help: "The page before", act: () => this.turn(true) },
      { key: "ArrowRight", sign: "→", help: "The next page", act: () => this.turn(false) },
      { key: "a", help: "Select the page", act: () => this.selectPage() },
      { key: "n", help: "Select none", act: () => this.select([]) },
      { key: "?", help: "These keys", act: () => this.showHelp() },
    ];
  }

  selectPage() {
    this.select([...this.selected, ...this.data.cards.map((card) => card.pair)]);
  }

  draw() {
    const { data } = this;
    this.drawHead(data.status.place);
    const none = this.selected.size === 0;
    const undo = data.undo?.pairs > 1 ? `Undo ${data.undo.pairs} verdicts` : "Undo";
    const quiet = { class: "quiet" };
    this.root.querySelector(".judge-row").replaceChildren(
      h("span", { class: "desk-place", id: "grid-selected" }, `${this.selected.size} selected`),
      ...data.answers.map((answer) =>
        this.button(answer.word, answer.key, () => this.judge(answer), { disabled: none })),
      this.button(undo, "Z", () => this.waiting || this.undo(), { ...quiet, disabled: !data.undo }),
      this.button("Select page", "A", () => this.selectPage(), quiet),
      this.button("Select none", "N", () => this.select([]), { ...quiet, disabled: none }),
      this.button("Previous", "←", () => this.turn(true), { ...quiet, disabled: data.before == null }),
      this.button("Next", "→", () => this.turn(false), { ...quiet, disabled: data.after == null }),
      this.button("Keys", "?", () => this.showHelp(), quiet));
    const cells = this.root.querySelector(".judge-cells");
    const drawn = JSON.stringify([data.scope, data.ack, data.cards]);
    if (drawn !== this.drawn) cells.replaceChildren(...data.cards.map((card) => this.cell(card)));
    this.drawn = drawn;
    if (!data.cards.length) cells.replaceChildren(data.empty);
    for (const cell of cells.querySelectorAll(".desk-cell")) {
      const on = this.selected.has(cell.dataset.pair);
      cell.classList.toggle("picked", on);
      cell.querySelector("input").checked = on;
    }
    this.root.querySelector("#grid-ready").dataset.first = data.cards[0]?.pair ?? "";
    this.status();
  }

  cell(card) {
    const box = h("input", { type: "checkbox", onchange: () => {
      box.checked ? this.selected.add(card.pair) : this.selected.delete(card.pair);
      this.draw();
    } });
    const figures = card.sides.map((side) => {
      const image = images.get(`${side.image}@small`);
      const kind = ["chosen", "tie"].includes(side.mark) ? side.mark : "plain";
      const small = Math.max(image.width, image.height) <= 128 ? "pixel" : "";
      return h("figure", { class: kind }, image.problem
        ? h("span", { class: "desk-quiet" }, image.problem)
        : h("img", { class: small, src: image.src, alt: `${side.slot}, ${side.mark}` }),
        h("figcaption", {}, side.mark));
    });
    const prompt = card.prompt || "(no prompt)";
    return h("div", { class: `desk-cell${card.blurred ? " blurred" : ""}`, "data-pair": card.pair },
      h("label", {}, h("div", { class: "desk-twins" }, ...figures),
        h("p", { class: "desk-line", dir: "auto", title: prompt }, prompt),
        h("span", { class: "judge-pick" }, box, ` Select ${card.pair}`)),
      h("div", { class: "desk-wrap", html: card.chips }),
      h("a", { href: card.link, onclick: (event) => {
        if (event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        this.act({ do: "open", pair: card.pair });
      } }, "Open"));
  }
}
