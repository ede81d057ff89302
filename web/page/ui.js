// What all views share: htm bound to Preact, signals as state, the announcer for screen readers, forms of numbers.

import { h } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import htm from "htm";
import { signal } from "signals";
import { text } from "./strings.js";

export const html = htm.bind(h);

// Renders a component again whenever the signal changes.
export function useSignal(source) {
  const [value, set] = useState(source.peek());
  useEffect(() => source.subscribe((next) => set(() => next)), [source]);
  return value;
}

export const announced = signal("");

// Says a sentence to screen readers, and shows it for a moment.
export function announce(sentence) {
  announced.value = "";
  queueMicrotask(() => (announced.value = sentence));
}

// 3725.4 -> "1:02:05"
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

// 250 -> "4 min"
export function span(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function size(bytes) {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} KB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

const TIMES = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

export function When({ at }) {
  return html`<time datetime=${at}>${TIMES.format(new Date(at))}</time>`;
}

export function Progress({ percent, label }) {
  return html`<progress max="100" value=${percent ?? undefined} aria-label=${label}></progress>`;
}

// Asks before what cannot be undone: resolves to whether the person agrees.
export const question = signal(null);

export function ask(sentence, verb) {
  return new Promise((resolve) => (question.value = { sentence, verb, resolve }));
}

export function Question() {
  const asked = useSignal(question);
  if (!asked) return null;
  const close = ({ currentTarget: dialog }) => {
    question.value = null;
    asked.resolve(dialog.returnValue === "yes");
  };
  return html`<${Dialog} label="asked" onClose=${close}>
    <p id="asked">${asked.sentence}</p>
    <form method="dialog" class="actions">
      <button value="">${text.keep}</button>
      <button value="yes" class="danger">${asked.verb}</button>
    </form>
  <//>`;
}

// A dialog that is open as long as it is rendered; closed by its form or Escape, it gives the focus back.
export function Dialog({ label, onClose, children }) {
  return html`<dialog ref=${(dialog) => dialog && !dialog.open && dialog.showModal()} aria-labelledby=${label} onClose=${onClose}>
    ${children}</dialog>`;
}

// Reads something now and every so often while the page is seen. Returns it, what went wrong last, and a function that
// reads it at once. `asked`: what it depends on.
export function useRead(read, everyMs, asked = []) {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState("");
  const again = useRef(() => {});
  useEffect(() => {
    let timer = null;
    let number = 0; // of the newest read: an older one that comes late is not shown
    const look = async () => {
      clearTimeout(timer);
      const mine = ++number;
      try {
        const now = document.hidden ? null : await read();
        if (mine !== number) return;
        if (now) setFound(now);
        setProblem("");
      } catch (error) {
        if (mine !== number) return;
        setProblem(error.message);
      }
      timer = setTimeout(look, everyMs);
    };
    const seen = () => { if (!document.hidden) look(); };
    again.current = look;
    look();
    document.addEventListener("visibilitychange", seen);
    return () => {
      number = -1;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, asked);
  return [found, problem, () => again.current()];
}

// On a phone's width a row is a card, so the roles that browsers take from the layout of tables are named.
export function Table({ title, label = title, heads, rows, none, children }) {
  return html`<section class="table" tabindex=${rows.length ? 0 : null} aria-label=${label}>${title && html`<h2>${title}</h2>`}${children}
    ${rows.length ? html`<table role="table"><thead role="rowgroup"><tr role="row">${heads.map((head) => (
        head ? html`<th scope="col" role="columnheader">${head}</th>` : html`<td role="cell"></td>`))}</tr></thead>
      <tbody role="rowgroup">${rows.map((cells) => html`<tr role="row">${cells.map((cell, n) => html`<td role="cell" data-head=${heads[n]}>${cell}</td>`)}</tr>`)}</tbody></table>`
    : html`<p class="quiet">${none}</p>`}</section>`;
}
