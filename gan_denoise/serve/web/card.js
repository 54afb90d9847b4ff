// Files: sent, waited for, shown
const LONGEST_S = 1200; // longer ones are saved, not played
class Card {
  constructor(file) {
    this.file = file;
    this.section = $("card").content.cloneNode(true).querySelector("section");
    $("cards").prepend(this.section);
    this.find("h3").textContent = file.name;
    this.find(".cancel").addEventListener("click", () => {
      this.request?.abort();
      this.section.remove();
    });
    this.find(".remove").addEventListener("click", () => {
      if (this.room?.sources) this.room.stop(0);
      this.section.remove();
    });
    this.find(".again").addEventListener("click", () => take([this.file]));
    this.find(".save").addEventListener("click", () => this.save());
    this.find(".share").addEventListener("input", event => this.mix(event.target.value / 100));
    this.share = 1;
    this.send()
      .then(() => this.show())
      .catch(error => this.fail(error.message));
  }
  find(what) {
    return this.section.querySelector(what);
  }
  wait(words, share) {
    this.find(".waits output").textContent = words;
    if (share === undefined) this.find("progress").removeAttribute("value");
    else this.find("progress").value = share;
  }
  send() {
    const id = uuid(),
      query = new URLSearchParams({
        id,
        name: this.file.name,
        high_band: $("keep").checked ? "keep" : "drop",
      });
    // Before it is known which there are, nobody has chosen one: the server takes its first
    if ($("model").value) query.set("model", $("model").value);
    if (!$("strengths").hidden) query.set("strength", (this.strength = $("strength").value));
    this.wait("sending", 0);
    return new Promise((resolve, reject) => {
      const request = (this.request = new XMLHttpRequest());
      let timer;
      request.open("POST", "/v1/enhance?" + query);
      if (token) request.setRequestHeader("authorization", "Bearer " + token);
      request.responseType = "blob";
      request.upload.onprogress = event => this.wait("sending", event.loaded / event.total);
      request.upload.onload = () => {
        const look = async () => {
          const told = await fetch("/v1/progress/" + id, { headers: authorized() })
            .then(response => response.json())
            .catch(() => ({}));
          if (timer && told.state === "enhancing") this.wait("enhancing", told.share);
          else if (timer && told.state) this.wait("waiting for its turn");
        };
        timer = setInterval(look, 500);
      };
      request.onprogress = event => {
        clearInterval(timer);
        timer = null;
        if (event.lengthComputable) this.wait("receiving", event.loaded / event.total);
      };
      request.onloadend = () => {
        clearInterval(timer);
        timer = null;
      };
      request.onerror = () => reject(new Error(GONE));
      request.onload = async () => {
        if (request.status === 200) {
          this.enhanced = request.response;
          for (const what of ["sample-rate", "channels", "frames"])
            this[what] = +request.getResponseHeader("x-" + what);
          this.notes = request.getResponseHeader("x-notes");
          resolve();
        } else {
          if (request.status === 401) $("gate").hidden = false;
          reject(new Error(JSON.parse(await request.response.text()).error));
        }
      };
      request.send(this.file);
    });
  }
  async show() {
    const rate = this["sample-rate"],
      seconds = this.frames / rate;
    const facts = document.createElement("small");
    const notes = this.notes && "; " + this.notes;
    const channels = this.channels === 1 ? "mono" : `${this.channels} channels`;
    const strength = this.strength ? `, strength ${this.strength}` : "";
    facts.textContent = ` ${clock(seconds)}, ${rate} Hz, ${channels}${strength}${notes}`;
    this.find("h3").append(facts);
    this.wait("drawing");
    try {
      if (seconds > LONGEST_S) throw new Error("it is too long to be shown here");
      const decode = async blob =>
        new OfflineAudioContext(this.channels, 1, rate).decodeAudioData(await blob.arrayBuffer());
      this.buffers = await Promise.all([this.file, this.enhanced].map(decode));
    } catch (error) {
      this.find(".waits progress").hidden = this.find(".cancel").hidden = true;
      this.find(".waits output").textContent =
        error.name === "Error"
          ? `Ready; ${error.message}.`
          : "Ready; this browser cannot play its format.";
      this.find(".mix label").hidden = true;
      this.find(".save").textContent = "Save";
      this.find(".done").hidden = false;
      return;
    }
    this.find(".waits").hidden = true;
    this.find(".ready").hidden = this.find(".done").hidden = false;
    const buffers = this.buffers,
      card = this,
      room = (this.room = this.section.room = new Room(this.find(".ready"), async () => buffers));
    room.weight = system =>
      room.system === 1 ? [1 - card.share, card.share][system] : +(system === room.system);
    let loudest;
    this.section.querySelectorAll(".picture").forEach((picture, system) => {
      const samples = mono(buffers[system]);
      picture.querySelectorAll("canvas").forEach(canvas => {
        canvas.width = PICTURE;
      });
      drawWave(picture.querySelector(".wave"), samples);
      loudest = drawSpectrum(picture.querySelector(".spectrum"), samples, rate, loudest);
    });
  }
  fail(message) {
    this.find(".waits progress").hidden = true;
    this.find(".cancel").textContent = "Remove";
    this.find(".waits output").textContent = message;
    this.find(".waits").classList.add("problem");
  }
  mix(share) {
    this.share = share;
    this.find(".mix output").textContent = Math.round(100 * share) + " %";
    this.room?.weigh();
  }
  save() {
    const untouched = !this.buffers || (this.share === 1 && this.enhanced.type === "audio/wav");
    const blob = untouched
      ? this.enhanced
      : wav(mixed(...this.buffers, this.share), this["sample-rate"]);
    const suffix = this.buffers ? ".wav" : (this.file.name.match(/\.\w+$/)?.[0] ?? "");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = this.file.name.replace(/\.\w+$/, "") + "_enhanced" + suffix;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
}
const take = files => {
  complain("");
  for (const file of files) new Card(file);
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
    if (name === "drop") take(event.dataTransfer.files);
  });
