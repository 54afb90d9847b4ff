// Samples: mixed down, written as WAV
function clock(seconds) {
  const minutes = Math.floor(seconds / 60),
    rest = seconds - 60 * minutes;
  return minutes
    ? `${minutes}:${String(Math.floor(rest)).padStart(2, "0")} min`
    : `${rest.toFixed(1)} s`;
}
function mono(buffer) {
  const sum = buffer.getChannelData(0).slice();
  for (let channel = 1; channel < buffer.numberOfChannels; channel++)
    buffer.getChannelData(channel).forEach((value, at) => {
      sum[at] += value;
    });
  return sum.map(value => value / buffer.numberOfChannels);
}
function wav(channels, rate) {
  // PCM 16
  const count = channels.length,
    length = channels[0].length,
    view = new DataView(new ArrayBuffer(44 + 2 * count * length));
  const text = (at, letters) =>
    [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * count * length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, count, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * count * rate, true);
  view.setUint16(32, 2 * count, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * count * length, true);
  channels.forEach((samples, channel) =>
    samples.forEach((value, at) =>
      view.setInt16(
        44 + 2 * (at * count + channel),
        Math.max(-32768, Math.min(32767, Math.round(32768 * value))),
        true,
      ),
    ),
  );
  return new Blob([view], { type: "audio/wav" });
}
