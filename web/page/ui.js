// What all views share: htm bound to Preact, signals as state, the announcer for screen readers, forms of numbers.

import { h } from "preact";
import { useEffect, useState } from "preact/hooks";
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
