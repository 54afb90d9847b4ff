// Files are sent a few at a time; the rest waits here, and asks again when the server says later
const AT_ONCE = 2,
  LOOKS_MS = 500,
  TYPES = /\.(wav|flac|ogg|oga|opus|mp3|m4a|mp4|webm|aac|aiff?|au|w64)$/i;
const queue = {
  cards: new Set(), // that are shown
  waiting: [],
  sending: new Set(),
  add(card) {
    this.waiting.push(card);
    card.wait("waits for its turn", 0);
    this.go();
  },
  leave(card) {
    this.waiting = this.waiting.filter(other => other !== card);
    this.sending.delete(card);
    this.go();
  },
  go() {
    while (this.sending.size < AT_ONCE && this.waiting.length) {
      const card = this.waiting.shift();
      this.sending.add(card);
      card.work().finally(() => this.leave(card));
    }
    this.show();
  },
  show() {
    const all = [...this.cards],
      done = all.filter(card => card.enhanced),
      failed = all.filter(card => card.failed);
    $("all").hidden = all.length < 2;
    $("sum").textContent =
      `${done.length} of ${all.length} done` + (failed.length ? `, ${failed.length} failed` : "");
    $("saveall").disabled = !done.length;
    $("retry").hidden = !failed.length;
  },
  // One request tells how far all are
  async look() {
    const asked = [...this.sending].filter(card => card.sent);
    if (!asked.length) return;
    const query = new URLSearchParams(asked.map(({ id }) => ["id", id]));
    const told = await fetch("/v1/progress?" + query, { headers: authorized() })
      .then(response => response.json())
      .catch(() => ({}));
    for (const card of asked) {
      const { state, share } = told[dashed(card.id)] ?? {};
      if (!card.sent) continue; // it has ended meanwhile
      if (state === "enhancing") card.wait("enhancing", share);
      else if (state) card.wait("waits for its turn");
    }
  },
};
setInterval(() => queue.look(), LOOKS_MS);
const dashed = id => id.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
$("saveall").addEventListener("click", async () => {
  for (const card of [...queue.cards].filter(card => card.enhanced)) {
    await card.save();
    await pause(0.3); // browsers lose some of those that come at once
  }
});
$("retry").addEventListener("click", () =>
  [...queue.cards].filter(card => card.failed).forEach(card => card.again()),
);
$("removeall").addEventListener("click", () => [...queue.cards].forEach(card => card.remove()));
const pause = seconds => new Promise(resolve => setTimeout(resolve, 1000 * seconds));

// What was dropped: files as they are; of folders, those whose names are of recordings
async function within(entry) {
  if (entry.isFile) return [await new Promise((yes, no) => entry.file(yes, no))];
  const reader = entry.createReader(),
    found = [];
  for (let some; (some = await new Promise((yes, no) => reader.readEntries(yes, no))).length; )
    found.push(...some);
  const files = (await Promise.all(found.map(within))).flat();
  return files.filter(({ name }) => TYPES.test(name) && !name.startsWith("."));
}
async function dropped({ items, files }) {
  const entries = [...items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return take([...files]);
  const found = (await Promise.all(entries.map(within))).flat();
  take(found);
  if (!found.length) complain("There are no recordings in that folder.");
}
