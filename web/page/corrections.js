// Corrections of a transcript, segment by segment. The server keeps their journal and numbers its revisions: a correction
// names the last one that this page has seen, and is refused where somebody else has changed the segment since.

import { signal } from "signals";
import { request } from "./api.js";
import { text } from "./strings.js";
import { announce } from "./ui.js";

export class Corrections {
  constructor(jobId, words) {
    Object.assign(this, { path: `/jobs/${jobId}/changes`, words });
    this.state = signal({ canUndo: false, canRedo: false });
    this.conflict = signal(null);
    this.revision = 0;
    request(this.path).then((found) => this.take(found), (error) => announce(error.message));
  }

  take({ revision, can_undo: canUndo, can_redo: canRedo }) {
    this.revision = revision;
    this.state.value = { canUndo, canRedo };
  }

  // Opens a segment's text in its place. Enter keeps it, Escape does not, Tab goes on to the next.
  edit(id) {
    const span = this.words.spans.get(id);
    const segment = this.words.segments.get(id);
    if (!segment || span.querySelector("textarea")) return;
    const input = Object.assign(document.createElement("textarea"), { value: segment.text, rows: 1 });
    input.setAttribute("aria-label", text.correctionOf(segment.text));
    let isOver = false;
    const close = (isKept) => {
      if (isOver) return;
      isOver = true;
      const written = input.value.trim().replace(/\s+/g, " ");
      this.words.replace(id, segment);
      if (isKept && written !== segment.text) this.save(id, written);
    };
    input.addEventListener("keydown", (event) => {
      if (!["Enter", "Escape", "Tab"].includes(event.key) || event.isComposing) return;
      event.preventDefault();
      event.stopPropagation();
      close(event.key !== "Escape");
      if (event.key === "Tab") this.edit(this.neighbour(id, event.shiftKey ? -1 : 1));
    });
    input.addEventListener("input", () => grow(input));
    input.addEventListener("blur", () => close(true));
    span.replaceChildren(input);
    grow(input);
    input.focus();
  }

  neighbour(id, step) {
    const ids = [...this.words.segments.keys()];
    return ids[ids.indexOf(id) + step];
  }

  async send(path, json) {
    return request(path, { method: "POST", json, headers: { "If-Match": `"${this.revision}"` } });
  }

  async save(id, written) {
    try {
      this.show(await this.send(this.path, { segment: id, text: written }));
      announce(text.saved);
    } catch (error) {
      if (error.code !== "correction_conflict") return announce(error.message);
      const { theirs, current } = error.problem;
      this.conflict.value = { id, mine: written, theirs, current };
    }
    return undefined;
  }

  show(answer) {
    this.take(answer);
    this.words.replace(answer.segment_id, answer.segment);
  }

  keepTheirs() {
    this.show(this.conflict.value.current);
    this.conflict.value = null;
  }

  async useMine() {
    const { id, mine } = this.conflict.value;
    this.keepTheirs();
    await this.save(id, mine);
  }

  undo() {
    return this.move("undo");
  }

  redo() {
    return this.move("redo");
  }

  async move(where) {
    try {
      this.show(await this.send(`${this.path}/${where}`));
    } catch (error) {
      if (error.problem?.current) this.show(error.problem.current);
      announce(error.message);
    }
  }
}

function grow(input) {
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight + 2}px`;
}
