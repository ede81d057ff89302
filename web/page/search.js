// Search in all transcripts: hits lead to the word in the reader.

import { useEffect, useRef, useState } from "preact/hooks";
import { request } from "./api.js";
import { text } from "./strings.js";
import { clock, html } from "./ui.js";

const NOTHING = { hits: [], cursor: null, isDone: false, problem: "" };

export function Search({ query }) {
  const asked = query.get("q") ?? "";
  const [found, setFound] = useState(NOTHING);
  const latest = useRef(asked);
  latest.current = asked;
  const read = async (cursor, before) => {
    const wanted = new URLSearchParams({ q: asked, limit: 20, ...(cursor && { cursor }) });
    try {
      const page = await request(`/search?${wanted}`);
      if (latest.current !== asked) return;
      setFound({ hits: [...before, ...page.hits], cursor: page.next_cursor, isDone: true, problem: "" });
    } catch (error) {
      setFound({ hits: before, cursor: null, isDone: true, problem: error.message });
    }
  };
  useEffect(() => {
    setFound(NOTHING);
    if (asked) read(null, []);
  }, [asked]);
  const submit = (event) => {
    event.preventDefault();
    location.hash = `/search?${new URLSearchParams({ q: new FormData(event.target).get("q") })}`;
  };
  return html`
    <h1>${text.search}</h1>
    <form class="filters" role="search" onSubmit=${submit}>
      <label for="q" class="hidden">${text.searchFor}</label>
      <input id="q" name="q" type="search" required maxlength="1000" value=${asked} autofocus placeholder=${text.searchFor} aria-describedby="q-hint" />
      <button class="primary">${text.search}</button>
      <span id="q-hint" class="quiet">${text.searchHint}</span>
    </form>
    ${found.problem && html`<p role="alert" class="problem">${found.problem}</p>`}
    <p role="status" class="quiet">${asked && found.isDone && !found.hits.length ? text.noHits : ""}</p>
    <ol class="hits">${found.hits.map((hit) => html`<li key=${`${hit.job_id}${hit.segment}`}><${Hit} hit=${hit} /></li>`)}</ol>
    ${found.cursor && html`<p><button onClick=${() => read(found.cursor, found.hits)}>${text.moreHits}</button></p>`}`;
}

function Hit({ hit }) {
  const at = hit.matches[0]?.start ?? hit.start;
  return html`<a href=${`#/jobs/${hit.job_id}?t=${at}`}>${hit.source_name}, ${clock(at)}</a>
    <p><span class="quiet">${hit.before}</span> ${marked(hit.text, hit.matches)} <span class="quiet">${hit.after}</span></p>`;
}

// The place of a word that is not the middle of another.
function findWord(whole, word, from) {
  let start = whole.indexOf(word, from);
  while (start > 0 && /\p{L}/u.test(whole[start - 1]) && /^\p{Script=Latin}/u.test(word)) start = whole.indexOf(word, start + 1);
  return start;
}

// A text with its matches, which come in order, marked.
function marked(whole, matches) {
  const parts = [];
  let at = 0;
  for (const match of matches) {
    const start = findWord(whole, match.text, at);
    if (start < 0) continue;
    parts.push(whole.slice(at, start), html`<mark>${match.text}</mark>`);
    at = start + match.text.length;
  }
  return [...parts, whole.slice(at)];
}
