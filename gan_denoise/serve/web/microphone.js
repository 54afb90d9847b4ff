// The microphone: a worklet gives away what it hears in pieces, and plays what comes back in time
function microphone() {
  const QUANTUM = 128,
    HELD = 2 ** 18;
  class Microphone extends AudioWorkletProcessor {
    constructor({ processorOptions: { piece, margin } }) {
      super();
      Object.assign(this, {
        piece,
        margin,
        heard: new Float32Array(HELD),
        enhanced: new Float32Array(HELD),
      });
      this.sent = this.count = this.came = this.at = 0; // given away, heard, come back, played
      this.weight = this.target = 1; // of the enhanced ones among what is played
      this.spare = Infinity;
      this.port.onmessage = ({ data }) => {
        if (data.denoise !== undefined) {
          this.target = +data.denoise;
          return;
        }
        data.samples.forEach(value => {
          this.enhanced[this.came++ % HELD] = value;
        });
      };
    }
    process([input], [output]) {
      const samples = input[0] ?? new Float32Array(QUANTUM);
      for (const value of samples) this.heard[this.count++ % HELD] = value;
      if (this.margin !== null) this.play(output[0]);
      if (this.count - this.sent >= this.piece) this.give();
      return true;
    }
    play(out) {
      if (!this.playing) this.playing = this.came - this.at >= this.margin;
      if (!this.playing) return;
      if (this.came - this.at < out.length) {
        this.playing = false;
        return;
      } // too late: wait until there is some again
      this.spare = Math.min(this.spare, this.came - this.at);
      for (let n = 0; n < out.length; n++) {
        this.weight += 0.005 * (this.target - this.weight);
        const place = this.at++ % HELD;
        out[n] = this.weight * this.enhanced[place] + (1 - this.weight) * this.heard[place];
      }
      this.power = Math.max(this.power ?? 0, ...out.map(Math.abs));
    }
    give() {
      const samples = Float32Array.from(
        { length: this.count - this.sent },
        (_, n) => this.heard[(this.sent + n) % HELD],
      );
      this.sent = this.count;
      this.port.postMessage({ samples, delay: this.count - this.at, played: this.power ?? 0 }, [
        samples.buffer,
      ]);
      this.power = 0;
      this.turns = (this.turns ?? 0) + 1;
      if (this.turns % 100 === 0) {
        // more in hand than was ever needed: catch up
        if (this.spare > 2 * this.margin && this.spare < Infinity)
          this.at += this.spare - this.margin;
        this.spare = Infinity;
      }
    }
  }
  registerProcessor("microphone", Microphone);
}
const PIECE_S = 0.02,
  MARGIN_S = 0.04;
class Ear {
  // take: gets {samples, delay, played} for every piece. rate: of what comes and is played back, in
  // Hz; none for a recording
  async open(take, rate) {
    if (!navigator.mediaDevices)
      throw new Error(
        "Browsers give the microphone only to pages of this machine, or with https.",
      );
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
    } catch (error) {
      throw new Error(
        error.name === "NotFoundError"
          ? "There is no microphone."
          : "This page may not use the microphone: allow it in the address bar, then try again.",
      );
    }
    const source = await this.connect(rate),
      own = this.context;
    this.rate = own.sampleRate;
    const address = URL.createObjectURL(
      new Blob([`(${microphone})()`], { type: "text/javascript" }),
    );
    await own.audioWorklet.addModule(address);
    URL.revokeObjectURL(address);
    const processorOptions = {
      piece: Math.round(PIECE_S * this.rate),
      margin: rate ? Math.round(MARGIN_S * this.rate) : null,
    };
    this.node = new AudioWorkletNode(own, "microphone", {
      processorOptions,
      channelCount: 1,
      channelCountMode: "explicit",
      outputChannelCount: [1],
    });
    this.node.port.onmessage = ({ data }) => take(data);
    source.connect(this.node).connect(own.destination);
  }
  async connect(sampleRate) {
    // at the model's rate where the browser can: its own resampler is the quickest
    this.context = new AudioContext({
      latencyHint: "interactive",
      ...(sampleRate && { sampleRate }),
    });
    await this.context.resume();
    try {
      return this.context.createMediaStreamSource(this.stream);
    } catch (error) {
      if (!sampleRate) throw error;
      await this.context.close();
      return this.connect();
    }
  }
  close() {
    this.stream?.getTracks().forEach(track => track.stop());
    this.context?.close();
    this.context = this.stream = null;
  }
}
