// The recorder and the live stream
const level = peak => Math.max(-60, 20 * Math.log10(peak + 1e-6));
const peak = samples => samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

let recordings = 0;
const recording = new Session(
  $("record"),
  { idle: "Record", asking: "Asking for the microphone", on: "Stop and enhance" },
  {
    async begin(ear) {
      ear.pieces = [];
      await ear.open(({ samples }) => {
        ear.pieces.push(samples);
        $("recording").value = level(peak(samples));
        $("recorded").textContent = (ear.pieces.length * PIECE_S).toFixed(1) + " s";
      });
      $("recording").hidden = $("recorded").hidden = false;
    },
    end({ pieces, rate }) {
      $("recording").hidden = $("recorded").hidden = true;
      const samples = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
      let at = 0;
      for (const piece of pieces) {
        samples.set(piece, at);
        at += piece.length;
      }
      const name = `recording ${++recordings}.wav`;
      if (at) new Card(new File([wav([samples], rate)], name, { type: "audio/wav" }), true);
    },
  },
);

const speaking = new Session(
  $("speak"),
  {
    idle: "Start the microphone",
    asking: "Asking for the microphone",
    on: "Stop the microphone",
  },
  {
    async begin(ear) {
      await ear.open(heard => hear(ear, heard), chosen().sample_rate);
      ear.socket = call(ear);
      ear.node.port.postMessage({ denoise: $("denoise").checked });
      $("levels").hidden = false;
    },
    end(ear) {
      ear.socket?.close();
      $("levels").hidden = true;
      $("delay").textContent = "";
    },
  },
);
function call(ear) {
  const query = new URLSearchParams({
    sample_rate: ear.rate,
    format: "f32le",
    model: $("model").value,
    ...(!$("strengths").hidden && { strength: $("strength").value }),
    ...(token && { token }),
  });
  const socket = new WebSocket(
    `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream?${query}`,
  );
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    if (data instanceof ArrayBuffer)
      return ear.node?.port.postMessage({ samples: new Float32Array(data) });
    const told = JSON.parse(data);
    if (told.error) ear.lost(told.error);
    else ear.ready = true;
  };
  socket.onclose = () =>
    ear.lost(
      ear.ready
        ? "The server ended the stream."
        : "The server takes no further live stream now, or does not answer.",
    );
  return socket;
}
function hear(ear, { samples, start, delay, played }) {
  if (ear.ready && ear.socket.readyState === WebSocket.OPEN) {
    // The first one after the hello: what comes back, and how late, counts from here
    if (ear.from === undefined) ear.node.port.postMessage({ from: (ear.from = start) });
    ear.socket.send(samples);
  }
  const { context, rate } = ear,
    loudspeaker_s = context ? context.baseLatency + (context.outputLatency || 0) : 0;
  $("heard").value = level(peak(samples));
  $("played").value = level(played);
  ear.turns = (ear.turns ?? 0) + 1;
  if (ear.turns % 25 === 0 && ear.from !== undefined)
    $("delay").textContent = `delay ${Math.round(1000 * (delay / rate + loudspeaker_s))} ms`;
}
$("strength").addEventListener("input", () => {
  if (speaking.ear?.ready) speaking.ear.socket.send("strength " + $("strength").value);
});
$("denoise").addEventListener("change", () =>
  speaking.ear?.node?.port.postMessage({ denoise: $("denoise").checked }),
);
$("microphone").addEventListener("change", () => {
  if (!speaking.ear) return; // a recording goes on with the one that it began with
  speaking.stop();
  speaking.start();
});
$("model").addEventListener("change", () => {
  speaking.stop("With another model the microphone must be started again.");
});
