// The microphone as PCM16 at 16 kHz, mono, which is what /ws/stt takes: openMicrophone for a page, and the
// AudioWorklet that it loads from this same file.

const RATE = 16000;
const PIECE = RATE / 50; // 20 ms
const ZERO_CROSSINGS = 16; // of the low-pass filter, on each side

// Calls onPcm with ArrayBuffers of s16le until the result's close() is called. Throws what getUserMedia throws.
export async function openMicrophone(onPcm) {
  if (!navigator.mediaDevices) throw new Error("browsers hand it out over https and on localhost only");
  // Models are trained on voices as they are, and the page plays nothing that could echo.
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  // At the device's own rate: not every browser connects a microphone to a context of another rate.
  const context = new AudioContext();
  await context.audioWorklet.addModule(import.meta.url);
  const node = new AudioWorkletNode(context, "longhand-pcm", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  node.port.onmessage = ({ data }) => onPcm(data);
  context.createMediaStreamSource(stream).connect(node);
  await context.resume();
  return {
    close() {
      node.port.onmessage = null;
      stream.getTracks().forEach((track) => track.stop());
      if (context.state !== "closed") context.close();
    },
  };
}

// Resamples by a windowed sinc. It keeps what it needs of earlier blocks, so blocks join without a seam.
export class Resampler {
  constructor(inputRate) {
    this.step = inputRate / RATE;
    this.cutoff = Math.min(1, 0.95 / this.step); // relative to half the input's rate
    this.reach = ZERO_CROSSINGS / this.cutoff;
    this.radius = Math.ceil(this.reach);
    this.kernels = new Map();
    this.samples = new Float32Array(this.radius); // silence before the first sample
    this.at = this.radius; // of the next output sample, in this.samples
  }

  push(block) {
    const samples = new Float32Array(this.samples.length + block.length);
    samples.set(this.samples);
    samples.set(block, this.samples.length);
    const output = [];
    for (; this.at + this.radius + 1 < samples.length; this.at += this.step) output.push(this.valueAt(samples));
    const done = Math.floor(this.at) - this.radius;
    this.samples = samples.slice(done);
    this.at -= done;
    return output;
  }

  // The weighted sum of the samples around this.at.
  valueAt(samples) {
    const whole = Math.floor(this.at);
    const kernel = this.kernelFor(this.at - whole);
    const first = whole - this.radius;
    let sum = 0;
    for (let tap = 0; tap < kernel.length; tap++) sum += kernel[tap] * samples[first + tap];
    return sum;
  }

  // Rates in a simple ratio need few kernels: 48 kHz needs one, 44.1 kHz 160.
  kernelFor(fraction) {
    const key = Math.round(fraction * 1e6);
    let kernel = this.kernels.get(key);
    if (!kernel) {
      kernel = Float32Array.from({ length: 2 * this.radius + 2 }, (_, tap) => this.weight(tap - this.radius - fraction));
      this.kernels.set(key, kernel);
    }
    return kernel;
  }

  weight(distance) {
    if (Math.abs(distance) > this.reach) return 0;
    const phase = Math.PI * distance * this.cutoff;
    const sinc = distance === 0 ? 1 : Math.sin(phase) / phase;
    return sinc * this.cutoff * (0.5 + 0.5 * Math.cos((Math.PI * distance) / this.reach));
  }
}

if (typeof registerProcessor === "function") {
  class PcmProcessor extends AudioWorkletProcessor {
    constructor() {
      super();
      this.resampler = new Resampler(sampleRate);
      this.piece = new DataView(new ArrayBuffer(PIECE * 2));
      this.filled = 0;
    }

    process([[channel]]) {
      for (const value of this.resampler.push(channel ?? new Float32Array(128))) {
        this.piece.setInt16(2 * this.filled++, Math.round(Math.max(-1, Math.min(1, value)) * 32767), true);
        if (this.filled === PIECE) {
          this.port.postMessage(this.piece.buffer.slice(0));
          this.filled = 0;
        }
      }
      return true;
    }
  }
  registerProcessor("longhand-pcm", PcmProcessor);
}
