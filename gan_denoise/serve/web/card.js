// Files: sent, waited for, shown
class Card {
  static longest_s = 1200; // longer ones are not held in memory: heard, without pictures
  // open: shown as soon as it is done, as one of many is not
  constructor(file, open) {
    Object.assign(this, { file, open, share: 1, id: "", sent: false, failed: false });
    this.section = $("card").content.cloneNode(true).querySelector("section");
    this.section.classList.toggle("row", !open);
    this.find("h3").textContent = file.name;
    this.find(".cancel").addEventListener("click", () => this.remove());
    this.find(".remove").addEventListener("click", () => this.remove());
    this.find(".retry").addEventListener("click", () => this.again());
    this.find(".again").addEventListener("click", () => take([this.file]));
    this.find(".open").addEventListener("click", () => this.show());
    this.find(".save").addEventListener("click", () => this.save());
    this.find(".share").addEventListener("input", event => this.mix(event.target.value / 100));
    open ? $("cards").prepend(this.section) : $("cards").append(this.section);
    queue.cards.add(this);
    queue.add(this);
  }
  find(what) {
    return this.section.querySelector(what);
  }
  remove() {
    if (this.room?.sources) this.room.stop(0);
    this.room?.close?.();
    this.removed = true;
    this.request?.abort();
    this.section.remove();
    queue.cards.delete(this);
    queue.leave(this);
  }
  again() {
    this.failed = this.find(".waits progress").hidden = false;
    this.find(".retry").hidden = true;
    this.find(".cancel").textContent = "Cancel";
    this.find(".waits").classList.remove("problem");
    queue.add(this);
  }
  wait(words, share) {
    this.find(".waits output").textContent = words;
    if (share === undefined) this.find("progress").removeAttribute("value");
    else this.find("progress").value = share;
  }
  // To its end, good or bad
  async work() {
    try {
      let later_s;
      while ((later_s = await this.send())) {
        this.wait("the server is busy: waits");
        await pause(later_s * (1 + Math.random()));
        if (this.removed) return;
      }
      await this.done();
    } catch (error) {
      this.fail(error.message);
    }
  }
  // The seconds after which to ask again, or nothing
  send() {
    this.settings = { name: this.file.name };
    if ($("keep").checked) this.settings.high_band = "keep";
    // Before it is known which there are, nobody has chosen one: the server takes its first
    if ($("model").value) this.settings.model = $("model").value;
    if (!$("strengths").hidden) this.settings.strength = this.strength = $("strength").value;
    const query = new URLSearchParams({ id: (this.id = uuid()), ...this.settings });
    this.wait("sending", 0);
    return new Promise((resolve, reject) => {
      const request = (this.request = new XMLHttpRequest());
      request.open("POST", "/v1/enhance?" + query);
      if (token) request.setRequestHeader("authorization", bearer());
      request.responseType = "blob";
      request.upload.onprogress = event => this.wait("sending", event.loaded / event.total);
      request.upload.onload = () => {
        this.sent = true;
      };
      request.onprogress = event => {
        this.sent = false;
        if (event.lengthComputable) this.wait("receiving", event.loaded / event.total);
      };
      request.onloadend = () => {
        this.sent = false;
      };
      request.onerror = () => reject(new Error(GONE));
      request.onabort = () => reject(new Error("cancelled"));
      request.onload = async () => {
        const later_s = +request.getResponseHeader("retry-after");
        if (request.status === 200) {
          this.take(request);
          resolve();
        } else if (later_s > 0) resolve(later_s);
        else {
          if (request.status === 401) refused();
          reject(new Error(reason(request.status, await request.response.text())));
        }
      };
      request.send(this.file);
    });
  }
  take(request) {
    this.enhanced = request.response;
    for (const what of ["sample-rate", "channels", "frames"])
      this[what] = +request.getResponseHeader("x-" + what);
    this.notes = request.getResponseHeader("x-notes");
    this.suffix = suffixOf(request.getResponseHeader("content-disposition"));
  }
  async done() {
    const rate = this["sample-rate"],
      facts = document.createElement("small");
    const notes = this.notes && "; " + this.notes;
    const channels = this.channels === 1 ? "mono" : `${this.channels} channels`;
    const strength = this.strength ? `, strength ${this.strength}` : "";
    facts.textContent = ` ${clock(this.frames / rate)}, ${rate} Hz, ${channels}${strength}${notes}`;
    this.find("h3").append(facts);
    if (this.open) return this.show();
    this.find(".waits").hidden = this.find(".mix label").hidden = true;
    this.find(".done").hidden = this.find(".open").hidden = false;
  }
  async show() {
    const rate = this["sample-rate"],
      seconds = this.frames / rate;
    this.section.classList.remove("row");
    this.find(".open").hidden = true;
    this.find(".waits").hidden = this.find(".mix label").hidden = false;
    this.wait("drawing");
    const ready = this.find(".ready");
    let room;
    try {
      if (seconds > Card.longest_s) {
        room = new LongRoom(ready, [this.file, this.enhanced]);
        await room.load();
        this.find(".view").hidden = true;
        this.section.querySelectorAll(".picture, .times").forEach(part => (part.hidden = true));
      } else {
        const decode = async blob =>
          new OfflineAudioContext(this.channels, 1, rate).decodeAudioData(await blob.arrayBuffer());
        const buffers = await Promise.all([this.file, this.enhanced].map(decode));
        room = new Room(ready, async () => buffers);
        this.buffers = buffers;
      }
    } catch {
      this.find(".waits progress").hidden = this.find(".cancel").hidden = true;
      this.find(".waits output").textContent = "Ready; this browser cannot play its format.";
      this.find(".done").hidden = false;
      return;
    }
    this.room = this.section.room = room;
    const card = this;
    room.weight = system =>
      room.system === 1 ? [1 - card.share, card.share][system] : +(system === room.system);
    this.find(".waits").hidden = true;
    ready.hidden = this.find(".done").hidden = false;
    if (this.buffers) this.view = new View(this, room, this.buffers);
  }
  fail(message) {
    this.failed = true;
    this.find(".waits progress").hidden = true;
    this.find(".retry").hidden = false;
    this.find(".cancel").textContent = "Remove";
    this.find(".waits output").textContent = message;
    this.find(".waits").classList.add("problem");
  }
  mix(share) {
    this.share = share;
    this.find(".mix output").textContent = Math.round(100 * share) + " %";
    this.room?.weigh();
  }
  // As it came, or as the server makes it again: mixed, and in another format
  async save() {
    const format = $("format").value,
      button = this.find(".save");
    let made = { blob: this.enhanced, suffix: this.suffix };
    if (format || this.share !== 1) {
      button.disabled = true;
      button.textContent = "Making it";
      try {
        made = await this.make({ mix: this.share, ...(format && { format }) });
      } catch (error) {
        return complain(error.message);
      } finally {
        button.disabled = false;
        button.textContent = "Save";
      }
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(made.blob);
    link.download = this.file.name.replace(/\.\w+$/, "") + "_enhanced" + made.suffix;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
  async make(changes) {
    const query = new URLSearchParams({ ...this.settings, ...changes });
    const request = { method: "POST", body: this.file, headers: authorized() };
    for (;;) {
      let answer;
      try {
        answer = await fetch("/v1/enhance?" + query, request);
      } catch {
        throw new Error(GONE);
      }
      const later_s = +answer.headers.get("retry-after");
      if (answer.ok)
        return {
          blob: await answer.blob(),
          suffix: suffixOf(answer.headers.get("content-disposition")),
        };
      if (!(later_s > 0)) throw new Error(reason(answer.status, await answer.text()));
      await pause(later_s);
    }
  }
}
const suffixOf = named => named?.match(/\.\w+$/)?.[0] ?? "";
const take = files => {
  complain("");
  for (const file of files) new Card(file, files.length === 1);
};

// Files come by hand, by drop, or from the recorder
$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => {
  take($("files").files);
  $("files").value = "";
});
for (const name of ["dragover", "dragleave", "drop"])
  document.addEventListener(name, event => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") dropped(event.dataTransfer);
  });
$("sample").addEventListener("click", async () => {
  const answer = await fetch("/sample.flac").catch(() => null);
  if (!answer?.ok) return complain(GONE);
  take([new File([await answer.blob()], "sample.flac", { type: "audio/flac" })]);
});
