// The audio's peaks on a canvas, below the range with which one moves through it.

import { useLayoutEffect, useRef } from "preact/hooks";
import { request } from "./api.js";
import { text } from "./strings.js";
import { clock, html } from "./ui.js";

export function Waveform({ job, player, duration }) {
  const canvas = useRef(null);
  const range = useRef(null);
  // A layout effect ends before the elements are gone: the player may tell of a move until it has ended.
  useLayoutEffect(() => {
    let peaks = [];
    const draw = () => drawPeaks(canvas.current, peaks, player.currentTime / duration);
    const move = () => {
      range.current.value = player.currentTime;
      range.current.setAttribute("aria-valuetext", clock(player.currentTime));
      draw();
    };
    request(`/jobs/${job.id}/peaks`).then((found) => { peaks = found.peaks; draw(); }, () => {});
    move(); // the range is set here alone: Preact would set a value of its own again and again
    const observer = new ResizeObserver(draw);
    observer.observe(canvas.current);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", draw);
    for (const name of ["timeupdate", "seeking"]) player.addEventListener(name, move);
    return () => {
      observer.disconnect();
      scheme.removeEventListener("change", draw);
      for (const name of ["timeupdate", "seeking"]) player.removeEventListener(name, move);
    };
  }, [job.id]);
  return html`<div class="waveform">
    <canvas ref=${canvas} aria-hidden="true"></canvas>
    <input ref=${range} type="range" min="0" max=${duration} step="0.1" aria-label=${text.position}
      onInput=${(event) => (player.currentTime = Number(event.target.value))} />
  </div>`;
}

// Draws peaks, the loudest over the whole height; those before `share` of the width are in the colour of what was played.
function drawPeaks(canvas, peaks, share) {
  if (!canvas) return;
  const scale = devicePixelRatio;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const style = getComputedStyle(canvas);
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const loudest = Math.max(1, ...peaks);
  for (let x = 0; x < width; x += 3) {
    const [from, to] = [x, x + 3].map((at) => Math.floor((at / width) * peaks.length));
    let peak = 0;
    for (let n = from; n < Math.max(to, from + 1); n++) peak = Math.max(peak, peaks[n] ?? 0);
    const size = Math.max(2, (peak / loudest) * height);
    context.fillStyle = x / width < share ? style.color : style.caretColor; // which CSS has resolved for the scheme
    context.fillRect(x, (height - size) / 2, 2, size);
  }
}
