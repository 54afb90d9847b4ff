// The listening room: all systems (sounds of equal length) run at once, and one is let through
let context = null,
  playing = null;
class Room {
  // section: holds .play, an input for the position with its output, and a .system button for each
  // sound. load: gives their buffers
  constructor(section, load) {
    this.section = section;
    this.loadBuffers = load;
    this.buttons = [...section.querySelectorAll(".system")];
    this.play = section.querySelector(".play");
    this.slider = section.querySelector("input");
    this.output = section.querySelector("output");
    this.system = 1;
    this.offset = 0;
    this.view = { from: 0, to: 1 }; // shares of the sound that the pictures show
    this.loops = false; // through what is in view
    this.play.addEventListener("click", () => this.toggle());
    this.buttons.forEach((button, system) =>
      button.addEventListener("click", event => {
        this.choose(system);
        if (event.detail && event.target.matches("img, canvas"))
          this.seek(this.inView(event.offsetX / event.target.clientWidth));
      }),
    );
    this.slider.addEventListener("input", () => this.seek(this.slider.value / 1000));
    section.addEventListener("keydown", event => {
      if (!event.target.matches("input, .play, a") && event.key === " ") {
        event.preventDefault();
        this.toggle();
      }
      if (/^[1-9]$/.test(event.key) && this.buttons[event.key - 1]) this.choose(event.key - 1);
    });
  }
  async load() {
    context ??= new AudioContext();
    await context.resume();
    this.buffers ??= await this.loadBuffers();
    this.duration = Math.max(...this.buffers.map(buffer => buffer.duration));
  }
  weight(system) {
    return system === this.system ? 1 : 0;
  }
  position() {
    return this.sources ? Math.min(this.duration, context.currentTime - this.started) : this.offset;
  }
  async toggle() {
    if (this.sources) return this.stop(this.position());
    await this.load();
    playing?.stop(playing.position());
    const { from, to } = this.loops ? this.view : { from: 0, to: 1 };
    const [first, last] = [from * this.duration, to * this.duration - 0.05];
    this.start(this.offset >= last || this.offset < first ? first : this.offset);
  }
  inView(share) {
    return this.view.from + share * (this.view.to - this.view.from);
  }
  start(offset) {
    const at = context.currentTime + 0.03;
    this.started = at - offset;
    this.gains = this.buffers.map((_, system) => {
      const gain = new GainNode(context, { gain: this.weight(system) });
      gain.connect(context.destination);
      return gain;
    });
    this.sources = this.buffers.map((buffer, system) => {
      const source = new AudioBufferSourceNode(context, { buffer });
      source.connect(this.gains[system]);
      source.start(at, offset);
      return source;
    });
    playing = this;
    this.play.textContent = "Pause";
    this.draw();
  }
  stop(offset) {
    this.sources?.forEach(source => source.stop());
    this.gains?.forEach(gain => gain.disconnect());
    this.sources = this.gains = null;
    this.offset = offset;
    if (playing === this) playing = null;
    this.play.textContent = "Play";
    this.show();
  }
  choose(system) {
    this.system = system;
    this.buttons.forEach((button, other) => button.setAttribute("aria-pressed", other === system));
    this.weigh();
  }
  weigh() {
    this.gains?.forEach((gain, system) =>
      gain.gain.setTargetAtTime(this.weight(system), context.currentTime, 0.004),
    );
  }
  async seek(share) {
    const running = this.sources;
    await this.load();
    if (running) this.stop(0);
    this.offset = share * this.duration;
    running ? this.start(this.offset) : this.show();
  }
  show() {
    const position = this.position(),
      share = this.duration ? position / this.duration : 0;
    const { from, to } = this.view;
    for (const button of this.buttons) {
      const line = button.querySelector("i");
      line.style.left = (100 * (share - from)) / (to - from) + "%";
      line.hidden = share < from || share > to;
    }
    this.slider.value = 1000 * share;
    this.output.textContent = Math.max(0, position).toFixed(1) + " s";
  }
  draw() {
    if (!this.sources) return;
    const { from, to } = this.view;
    if (this.loops && this.position() >= to * this.duration) {
      this.stop(from * this.duration);
      return this.start(this.offset);
    }
    if (this.position() >= this.duration) return this.stop(0);
    this.show();
    requestAnimationFrame(() => this.draw());
  }
}
