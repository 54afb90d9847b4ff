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
      this.from = 0; // the first that was sent to the server; what comes back counts from there
      this.weight = this.target = 1; // of the enhanced ones among what is played
      this.spare = Infinity;
      this.port.onmessage = ({ data }) => {
        if (data.denoise !== undefined) {
          this.target = +data.denoise;
          return;
        }
        if (data.from !== undefined) {
          this.from = data.from;
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
        const place = this.at++;
        const before = this.heard[(this.from + place) % HELD];
        out[n] = this.weight * this.enhanced[place % HELD] + (1 - this.weight) * before;
      }
      this.power = Math.max(this.power ?? 0, ...out.map(Math.abs));
    }
    give() {
      const samples = Float32Array.from(
        { length: this.count - this.sent },
        (_, n) => this.heard[(this.sent + n) % HELD],
      );
      const start = this.sent,
        delay = this.count - this.from - this.at;
      this.sent = this.count;
      this.port.postMessage({ samples, start, delay, played: this.power ?? 0 }, [samples.buffer]);
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
const UNHEARD = {
  NotAllowedError:
    "This page may not use the microphone: allow it in the address bar, then try again.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone cannot be opened: another program may have it. Try again then.",
};
Object.assign(UNHEARD, {
  SecurityError: UNHEARD.NotAllowedError,
  OverconstrainedError: UNHEARD.NotFoundError,
  AbortError: UNHEARD.NotReadableError,
});
// Browsers name them to pages that may use one
async function nameMicrophones() {
  const chosen = $("microphone").value,
    devices = await navigator.mediaDevices.enumerateDevices(),
    named = devices.filter(({ kind, label }) => kind === "audioinput" && label);
  const options = named.map(({ label, deviceId }) => new Option(label, deviceId));
  $("microphone").replaceChildren(...options);
  if (named.some(({ deviceId }) => deviceId === chosen)) $("microphone").value = chosen;
  $("microphones").hidden = named.length < 2;
}
navigator.mediaDevices?.addEventListener("devicechange", nameMicrophones);
class Ear {
  // lost: told why the microphone has ended by itself
  constructor(lost) {
    this.lost = lost;
    this.closed = false;
  }
  // take: gets {samples, start, delay, played} for every piece. rate: of what comes and is played
  // back, in Hz; none for a recording. Throws where there is no microphone, or when it was closed
  // meanwhile
  async open(take, rate) {
    if (!navigator.mediaDevices)
      throw new Error(
        "Browsers give the microphone only to pages of this machine, or with https.",
      );
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: {
          echoCancellation: false,
          noiseSuppression: false,
          autoGainControl: false,
          ...($("microphone").value && { deviceId: { exact: $("microphone").value } }),
        },
      });
    } catch (error) {
      throw new Error(UNHEARD[error.name] ?? `The microphone cannot be opened (${error.name}).`);
    }
    this.stay();
    await nameMicrophones();
    this.stay();
    const [track] = this.stream.getAudioTracks();
    track.onended = () => this.lost("The microphone is gone: it was unplugged, or taken away.");
    track.onmute = () => complain("The system has muted the microphone: there is silence.");
    track.onunmute = () => complain("");
    const source = await this.connect(rate),
      own = this.context;
    this.stay();
    this.rate = own.sampleRate;
    const address = URL.createObjectURL(
      new Blob([`(${microphone})()`], { type: "text/javascript" }),
    );
    await own.audioWorklet.addModule(address);
    URL.revokeObjectURL(address);
    this.stay();
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
    this.stay();
    try {
      return this.context.createMediaStreamSource(this.stream);
    } catch (error) {
      if (!sampleRate) throw error;
      await this.context.close();
      return this.connect();
    }
  }
  stay() {
    if (!this.closed) return;
    this.close(); // what was opened since
    throw new Error("closed");
  }
  close() {
    this.closed = true;
    this.stream?.getTracks().forEach(track => track.stop());
    this.context?.close();
    this.context = this.stream = null;
  }
}
