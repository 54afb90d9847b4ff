// Pictures of sound, aligned: waveform and spectrogram
const PICTURE = 720, // pixels across
  FLOOR_DB = 80; // below the loudest is black
// first, last: of the samples that are drawn
function drawWave(canvas, samples, first = 0, last = samples.length) {
  const height = (canvas.height = 96),
    pen = canvas.getContext("2d"),
    step = (last - first) / PICTURE;
  pen.fillStyle = "#808080"; // seen on white and on black
  for (let x = 0; x < PICTURE; x++) {
    let low = 0,
      high = 0;
    const begin = Math.floor(first + x * step),
      end = Math.min(last, Math.max(begin + 1, first + (x + 1) * step));
    for (let at = begin; at < end; at++) {
      low = Math.min(low, samples[at]);
      high = Math.max(high, samples[at]);
    }
    pen.fillRect(
      x,
      (height / 2) * (1 - Math.min(1, high)),
      1,
      Math.max(1, (height / 2) * (Math.min(1, high) - Math.max(-1, low))),
    );
  }
}
const MAGMA = [
  [0, 0, 4],
  [28, 16, 68],
  [79, 18, 123],
  [129, 37, 129],
  [181, 54, 122],
  [229, 80, 100],
  [251, 135, 97],
  [254, 194, 135],
  [252, 253, 191],
];
function drawSpectrum(canvas, samples, rate, loudest, first = 0, last = samples.length) {
  // 32 ms Hann, 0 to half the rate; returns the power of its loudest bin
  const size = 2 ** Math.round(Math.log2(0.032 * rate)),
    bins = size / 2,
    height = (canvas.height = Math.min(bins, 160)),
    pen = canvas.getContext("2d");
  const window = Float64Array.from(
    { length: size },
    (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / size),
  );
  const image = pen.createImageData(PICTURE, height),
    columns = [];
  for (let x = 0; x < PICTURE; x++) {
    const middle = Math.round(first + ((x + 0.5) / PICTURE) * (last - first)) - size / 2,
      real = new Float64Array(size),
      imaginary = new Float64Array(size);
    for (let n = 0; n < size; n++) real[n] = window[n] * (samples[middle + n] ?? 0);
    fft(real, imaginary);
    columns.push(
      Float64Array.from({ length: height }, (_, y) => {
        let power = 0;
        for (let bin = Math.floor((y * bins) / height); bin < ((y + 1) * bins) / height; bin++)
          power = Math.max(power, real[bin] ** 2 + imaginary[bin] ** 2);
        return power;
      }),
    );
  }
  loudest ??= Math.max(1e-12, ...columns.map(column => Math.max(...column)));
  columns.forEach((column, x) =>
    column.forEach((power, y) => {
      const level =
        Math.max(0, Math.min(1, 1 + (10 * Math.log10(power / loudest + 1e-12)) / FLOOR_DB)) *
        (MAGMA.length - 1);
      const low = MAGMA[Math.floor(level)],
        high = MAGMA[Math.ceil(level)],
        part = level - Math.floor(level),
        at = 4 * ((height - 1 - y) * PICTURE + x);
      for (let colour = 0; colour < 3; colour++)
        image.data[at + colour] = low[colour] + part * (high[colour] - low[colour]);
      image.data[at + 3] = 255;
    }),
  );
  pen.putImageData(image, 0, 0);
  return loudest;
}
function fft(real, imaginary) {
  // in place, radix 2
  const size = real.length;
  for (let n = 1, reversed = 0; n < size; n++) {
    let bit = size >> 1;
    for (; reversed & bit; bit >>= 1) reversed ^= bit;
    reversed ^= bit;
    if (n < reversed)
      [real[n], real[reversed], imaginary[n], imaginary[reversed]] = [
        real[reversed],
        real[n],
        imaginary[reversed],
        imaginary[n],
      ];
  }
  for (let half = 1; half < size; half *= 2)
    for (let k = 0; k < half; k++) {
      const cosine = Math.cos((Math.PI * k) / half),
        sine = -Math.sin((Math.PI * k) / half);
      for (let even = k; even < size; even += 2 * half) {
        const odd = even + half,
          re = real[odd] * cosine - imaginary[odd] * sine,
          im = real[odd] * sine + imaginary[odd] * cosine;
        real[odd] = real[even] - re;
        imaginary[odd] = imaginary[even] - im;
        real[even] += re;
        imaginary[even] += im;
      }
    }
}
// Round numbers from low to high, about `count` of them
function ticks(low, high, count) {
  const rough = (high - low) / count,
    unit = 10 ** Math.floor(Math.log10(rough)),
    step = unit * [1, 2, 5, 10].find(times => times * unit >= rough);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, n) =>
    +((first + n) * step).toPrecision(9),
  );
}
// label(value) at its share of an axis. side: of the style that places it
function drawAxis(axis, low, high, count, side, label) {
  axis.replaceChildren(
    ...ticks(low, high, count).map(value => {
      const mark = document.createElement("em");
      mark.textContent = label(value);
      mark.style[side] = (100 * (value - low)) / (high - low) + "%";
      return mark;
    }),
  );
}
