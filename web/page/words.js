// The transcript as text: a paragraph is a block that browsers lay out only near the window (content-visibility), a
// segment in it a span with one text node. Words are found by their times and places, and marked by the Custom Highlight
// API, so that moving the mark changes no node.

const hasHighlights = "highlights" in CSS;
const UNSURE = 0.5; // confidence below which a word is marked

const SPEAKERS = 8; // colours

export class Words {
  // Fills the element. `clock` writes times, `nameOf` who speaks in a segment: null where nobody knows.
  constructor(element, transcript, clock, nameOf) {
    const named = (segment) => nameOf(segment, transcript.speakers);
    Object.assign(this, { element, clock, nameOf: named, segments: new Map(), spans: new Map(), current: null });
    this.paragraphs = transcript.paragraphs;
    for (const segment of transcript.segments) this.segments.set(segment.id, segment);
    this.fill(transcript.segments);
    this.index();
    this.overlaps = this.markOverlaps();
  }

  fill(segments) {
    const all = document.createDocumentFragment();
    let at = 0;
    let last = null;
    for (const { start, first_segment: first, last_segment: final } of this.paragraphs) {
      let block = null;
      for (; at < segments.length && segments[at].id <= final; at++) {
        const segment = segments[at];
        if (segment.id < first) continue;
        const speaker = this.nameOf(segment);
        if (!block || speaker !== last) {
          block = document.createElement("p");
          block.dataset.time = this.clock(block === null ? start : segment.start);
          if (speaker !== null) {
            block.dataset.speaker = speaker;
            block.style.setProperty("--speaker", `var(--speaker-${this.colour(speaker)})`);
          }
          last = speaker;
          all.append(block);
        }
        block.append(this.spanOf(segment, block.childNodes.length > 0));
      }
    }
    this.element.replaceChildren(all);
  }

  colour(speaker) {
    this.speakers ??= new Map();
    if (!this.speakers.has(speaker)) this.speakers.set(speaker, this.speakers.size % SPEAKERS);
    return this.speakers.get(speaker);
  }

  spanOf(segment, isInside) {
    const span = document.createElement("span");
    span.dataset.id = segment.id;
    span.textContent = (isInside ? segment.separator : "") + segment.text;
    this.spans.set(segment.id, span);
    return span;
  }

  // Finds all words' times; called again when a segment has changed.
  index() {
    const starts = [];
    const places = [];
    for (const segment of this.segments.values()) {
      segment.words.forEach((word, n) => {
        starts.push(word.start);
        places.push([segment.id, n]);
      });
    }
    // Channels and speakers overlap: segments are in the order of their starts, words need not be.
    const order = starts.map((_, n) => n).sort((one, other) => starts[one] - starts[other]);
    this.starts = Float64Array.from(order, (n) => starts[n]);
    this.places = order.map((n) => places[n]);
    this.current = null;
  }

  // Puts a corrected segment in the place of what it was; null: it is gone.
  replace(id, segment) {
    const span = this.spans.get(id);
    if (!segment) {
      this.segments.delete(id);
      span.textContent = "";
    } else {
      this.segments.set(id, segment);
      span.textContent = (span.previousSibling ? segment.separator : "") + segment.text;
      if (this.segments.size && !this.isOrdered()) this.segments = new Map([...this.segments].sort(([one], [other]) => one - other));
    }
    this.index();
    if (this.isMarking) this.markUnsure(true);
    if (this.overlaps) this.markOverlaps();
  }

  isOrdered() {
    let last = -1;
    for (const id of this.segments.keys()) {
      if (id < last) return false;
      last = id;
    }
    return true;
  }

  // The number of the last word that has begun at a time; -1 before the first.
  wordAt(seconds) {
    let [low, high] = [0, this.starts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.starts[middle] <= seconds) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  // The range of a segment's n-th word in its text node; null while the segment is being corrected.
  rangeOf(id, n) {
    const node = this.spans.get(id)?.firstChild;
    if (node?.nodeType !== Node.TEXT_NODE) return null;
    const { words, text } = this.segments.get(id);
    let at = node.length - text.length;
    for (let before = 0; before < n; before++) at += words[before].text.length + words[before + 1].separator.length;
    const end = Math.min(at + words[n].text.length, node.length);
    return new StaticRange({ startContainer: node, startOffset: Math.min(at, end), endContainer: node, endOffset: end });
  }

  // Marks the word that is said at a time. Returns its span if that is another than before, else null.
  show(seconds) {
    const number = this.wordAt(seconds);
    if (number === this.current) return null;
    this.current = number;
    const [id, n] = this.places[number] ?? [];
    const span = this.spans.get(id);
    if (hasHighlights) {
      const range = number < 0 ? null : this.rangeOf(id, n);
      if (range) CSS.highlights.set("word", new Highlight(range));
      else CSS.highlights.delete("word");
    }
    if (span === this.shown) return null;
    this.shown?.classList.remove("now");
    this.shown = span;
    span?.classList.add("now");
    return span ?? null;
  }

  // Marks the words of which the model was not sure.
  markUnsure(isMarking) {
    this.isMarking = isMarking;
    this.mark("unsure", ({ confidence }) => isMarking && confidence != null && confidence < UNSURE);
  }

  // Marks the words during which another speaker talks. Returns whether there are any.
  markOverlaps() {
    return this.mark("overlap", ({ overlap }) => overlap);
  }

  // Gives a highlight to the words of a kind. Returns whether there are any.
  mark(name, isMarked) {
    const ranges = [];
    for (const { id, words } of this.segments.values()) {
      words.forEach((word, n) => { if (isMarked(word)) ranges.push(this.rangeOf(id, n)); });
    }
    if (hasHighlights) CSS.highlights.set(name, new Highlight(...ranges.filter(Boolean)));
    return ranges.length > 0;
  }

  // The segment and the start of the word at a point of the window; null beside the text.
  at(x, y) {
    const caret = document.caretPositionFromPoint?.(x, y);
    const range = caret ? null : document.caretRangeFromPoint?.(x, y);
    const node = caret?.offsetNode ?? range?.startContainer;
    const offset = caret?.offset ?? range?.startOffset;
    const span = node?.parentElement?.closest("[data-id]");
    if (!span || node.nodeType !== Node.TEXT_NODE) return null;
    const segment = this.segments.get(Number(span.dataset.id));
    if (!segment) return null;
    let at = node.length - segment.text.length;
    const word = segment.words.find((each, n) => {
      at += each.text.length + (segment.words[n + 1]?.separator.length ?? 0);
      return offset < at;
    }) ?? segment.words.at(-1);
    return { segment, start: word?.start ?? segment.start };
  }

  close() {
    if (hasHighlights) for (const name of ["word", "unsure", "overlap"]) CSS.highlights.delete(name);
  }
}
