// What of a card's sounds is in view: zoom, axes, a loop, and equal loudness before and after
const CLOSEST_S = 0.05,
  HEARD = 1e5; // samples that loudness is taken from
class View {
  // room: of a card, whose buffers are decoded
  constructor(card, room, buffers) {
    Object.assign(this, { card, room, rate: buffers[0].sampleRate });
    this.samples = buffers.map(mono);
    this.duration = Math.max(...buffers.map(buffer => buffer.duration));
    this.weight = room.weight; // before it is made as loud
    room.weight = system => this.weight(system) * this.gain();
    const on = (what, event, act) => card.find(what).addEventListener(event, act);
    on(".closer", "click", () => this.zoom(0.5));
    on(".wider", "click", () => this.zoom(2));
    on(".all", "click", () => this.zoom(Infinity));
    on(".loop input", "change", event => (room.loops = event.target.checked));
    on(".alike input", "change", () => room.weigh());
    this.draw();
  }
  // The view gets `times` as long, around the position
  zoom(times) {
    const { from, to } = this.room.view,
      length = Math.min(1, Math.max(CLOSEST_S / this.duration, times * (to - from))),
      position = this.room.position() / this.duration,
      middle = position >= from && position <= to ? position : (from + to) / 2,
      start = Math.max(0, Math.min(1 - length, middle - length / 2));
    this.room.view = { from: start, to: start + length };
    this.draw();
    this.room.show();
  }
  draw() {
    const { from, to } = this.room.view,
      [low, high] = [from * this.duration, to * this.duration];
    this.card.section.querySelectorAll(".system").forEach((system, number) => {
      const samples = this.samples[number],
        span = [Math.floor(low * this.rate), Math.min(samples.length, Math.ceil(high * this.rate))];
      const spectrum = system.querySelector(".spectrum");
      for (const canvas of system.querySelectorAll("canvas")) canvas.width = PICTURE;
      drawWave(system.querySelector(".wave"), samples, ...span);
      this.loudest = drawSpectrum(spectrum, samples, this.rate, this.loudest, ...span);
      drawAxis(system.querySelector(".hertz"), 0, this.rate / 2000, 4, "bottom", kHz => `${kHz} kHz`);
      drawAxis(system.querySelector(".times"), low, high, 5, "left", label);
    });
    this.card.find(".wider").disabled = this.card.find(".all").disabled = to - from === 1;
    this.card.find(".closer").disabled = high - low <= CLOSEST_S;
  }
  // Makes what is heard as loud as the quieter of before and after
  gain() {
    if (!this.card.find(".alike input").checked) return 1;
    const heard = system => this.loudness([0, 1].map(one => this.weightOf(system, one)));
    return Math.min(heard(0), heard(1)) / heard(this.room.system);
  }
  // Of a sound, among what is heard of a system
  weightOf(system, sound) {
    const { share } = this.card;
    return system === 1 ? [1 - share, share][sound] : +(sound === 0);
  }
  loudness(weights) {
    const [before, after] = this.samples,
      step = Math.max(1, Math.floor(before.length / HEARD));
    let power = 1e-12;
    for (let at = 0; at < before.length; at += step)
      power += (weights[0] * before[at] + weights[1] * (after[at] ?? 0)) ** 2;
    return Math.sqrt(power);
  }
}
const label = seconds =>
  seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)}:${String(+(seconds % 60).toFixed(2)).padStart(2, "0")}`;

// A room for what is too long to be held in memory: the browser plays both files, one is let through
class LongRoom extends Room {
  constructor(section, files) {
    super(section);
    this.files = files;
  }
  async load() {
    context ??= new AudioContext();
    await context.resume();
    this.players ??= this.files.map(file => new Audio(URL.createObjectURL(file)));
    await Promise.all(this.players.map(opened));
    this.nodes ??= this.players.map(player => context.createMediaElementSource(player));
    this.duration = Math.max(...this.players.map(player => player.duration));
  }
  position() {
    return this.sources ? this.players[0].currentTime : this.offset;
  }
  start(offset) {
    this.gains = this.nodes.map((node, system) => {
      const gain = new GainNode(context, { gain: this.weight(system) });
      node.connect(gain).connect(context.destination);
      return gain;
    });
    for (const player of this.players) player.currentTime = offset;
    this.sources = this.players.map(player => {
      player.play();
      return { stop: () => player.pause() };
    });
    playing = this;
    this.play.textContent = "Pause";
    this.draw();
  }
  stop(offset) {
    this.nodes?.forEach(node => node.disconnect());
    super.stop(offset);
  }
  close() {
    for (const player of this.players ?? []) URL.revokeObjectURL(player.src);
  }
}
const opened = player =>
  new Promise((yes, no) => {
    if (player.readyState) return yes();
    player.onloadedmetadata = yes;
    player.onerror = () => no(new Error("this browser cannot play its format"));
  });
