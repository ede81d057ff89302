// Rates over days as lines, one for each series.

import { text } from "./strings.js";
import { html } from "./ui.js";

const [WIDTH, HEIGHT] = [720, 240];
const [LEFT, RIGHT, TOP, BOTTOM] = [72, 12, 16, 32];
const DAY_MS = 86_400_000;
const COLOURS = 8;
const DATES = new Intl.DateTimeFormat("en", { month: "short", day: "numeric", timeZone: "UTC" });

// `days`: [{day: "2026-11-27", series, value: 0.123}], by day; the last of nDays is today.
export function Plot({ days, nDays }) {
  const today = Math.floor(Date.now() / DAY_MS);
  const top = ceiling(Math.max(...days.map(({ value }) => value ?? 0)));
  const x = (number) => LEFT + ((number - today + nDays - 1) / (nDays - 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
  const lines = new Map();
  for (const { day, series, value } of days) {
    if (value == null) continue;
    if (!lines.has(series)) lines.set(series, []);
    lines.get(series).push([x(Date.parse(day) / DAY_MS), y(value)]);
  }
  const rungs = [0, 1, 2, 3, 4].map((n) => (n * top) / 4);
  const weeks = Array.from({ length: Math.floor((nDays - 1) / 7) + 1 }, (_, n) => today - 7 * n);
  return html`<figure class="plot">
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${text.accuracyDays}>
      ${rungs.map((value) => html`<line x1=${LEFT} x2=${WIDTH - RIGHT} y1=${y(value)} y2=${y(value)} />
        <text x=${LEFT - 8} y=${y(value) + 4} text-anchor="end">${`${Number((100 * value).toFixed(2))} %`}</text>`)}
      ${weeks.map((day, n) => html`<text x=${x(day)} y=${HEIGHT - 8} text-anchor=${n ? "middle" : "end"}>${DATES.format(day * DAY_MS)}</text>`)}
      ${[...lines.values()].map((points, n) => html`<g class=${`series-${n % COLOURS}`}>
        <polyline points=${points.map((point) => point.join(",")).join(" ")} />
        ${points.map(([at, height]) => html`<circle cx=${at} cy=${height} r="3" />`)}</g>`)}
    </svg>
    <figcaption>${[...lines.keys()].map((series, n) => html`<span class=${`key series-${n % COLOURS}`}>${series}</span>`)}</figcaption>
  </figure>`;
}

// The least of 1, 2 and 5 times a power of ten that a rate does not exceed.
function ceiling(rate) {
  if (rate <= 0) return 0.01;
  const power = 10 ** Math.floor(Math.log10(rate));
  return [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= rate * 0.999);
}
