// The recorder and the live stream
const level = peak => Math.max(-60, 20 * Math.log10(peak + 1e-6));
const peak = samples => samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

let recorder = null,
  recordings = 0;
$("record").addEventListener("click", async () => {
  complain("");
  if (recorder) {
    const { ear, pieces } = recorder;
    recorder = null;
    showRecording(false);
    ear.close();
    const samples = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of pieces) {
      samples.set(piece, at);
      at += piece.length;
    }
    if (at)
      new Card(
        new File([wav([samples], ear.rate)], `recording ${++recordings}.wav`, {
          type: "audio/wav",
        }),
      );
    return;
  }
  const ear = new Ear(),
    pieces = [];
  recorder = { ear, pieces };
  try {
    await ear.open(({ samples }) => {
      pieces.push(samples);
      $("recording").value = level(peak(samples));
      $("recorded").textContent = (pieces.length * PIECE_S).toFixed(1) + " s";
    });
    showRecording(true);
  } catch (error) {
    recorder = null;
    ear.close();
    complain(error.message);
  }
});
function showRecording(running) {
  $("record").textContent = running ? "Stop and enhance" : "Record";
  $("record").classList.toggle("on", running);
  $("recording").hidden = $("recorded").hidden = !running;
}

let live = null;
$("speak").addEventListener("click", async () => {
  complain("");
  if (live) return hush();
  const ear = new Ear(),
    own = (live = { ear });
  $("speak").disabled = true;
  try {
    await ear.open(heard => hear(own, heard), chosen().sample_rate);
    const query = new URLSearchParams({
      sample_rate: ear.rate,
      format: "f32le",
      model: $("model").value,
      ...(!$("strengths").hidden && { strength: $("strength").value }),
      ...(token && { token }),
    });
    own.socket = new WebSocket(
      `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream?${query}`,
    );
    own.socket.binaryType = "arraybuffer";
    own.socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer)
        return ear.node.port.postMessage({ samples: new Float32Array(data) });
      const told = JSON.parse(data);
      if (told.error) hush(told.error);
      else own.ready = true;
    };
    own.socket.onclose = () => {
      if (live === own)
        hush(
          own.ready
            ? "The server ended the stream."
            : "The server takes no further live stream now, or does not answer.",
        );
    };
    ear.node.port.postMessage({ denoise: $("denoise").checked });
    $("speak").textContent = "Stop the microphone";
    $("speak").classList.add("on");
    $("levels").hidden = false;
  } catch (error) {
    hush(error.message);
  }
  $("speak").disabled = false;
});
function hear(own, { samples, delay, played }) {
  if (own.ready && own.socket.readyState === WebSocket.OPEN) own.socket.send(samples);
  const { ear } = own,
    loudspeaker_s = ear.context ? ear.context.baseLatency + (ear.context.outputLatency || 0) : 0;
  $("heard").value = level(peak(samples));
  $("played").value = level(played);
  own.turns = (own.turns ?? 0) + 1;
  if (own.turns % 25 === 0)
    $("delay").textContent = `delay ${Math.round(1000 * (delay / ear.rate + loudspeaker_s))} ms`;
}
function hush(message = "") {
  const own = live;
  live = null;
  own.socket?.close();
  own.ear.close();
  $("speak").textContent = "Start the microphone";
  $("speak").classList.remove("on");
  $("levels").hidden = true;
  $("delay").textContent = "";
  complain(message);
}
$("strength").addEventListener("input", () => {
  if (live?.ready) live.socket.send("strength " + $("strength").value);
});
$("denoise").addEventListener("change", () =>
  live?.ear.node.port.postMessage({ denoise: $("denoise").checked }),
);
