// One job: its text while it becomes, then the reader: audio, the word in step, keys, corrections, downloads.

import { useEffect, useRef, useState } from "preact/hooks";
import { follow, may, request } from "./api.js";
import { Corrections } from "./corrections.js";
import { State } from "./jobs.js";
import { Share } from "./share.js";
import { text } from "./strings.js";
import { announce, clock, Dialog, html, useSignal } from "./ui.js";
import { Waveform } from "./waveform.js";
import { Words } from "./words.js";

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 3];
const STEP_S = 5;
const FORMATS = ["txt", "srt", "vtt", "json", "tsv", "docx"];
const PARTIAL_EVERY_MS = 2000;

export function Reader({ id, query }) {
  const [job, setJob] = useState(null);
  const [transcript, setTranscript] = useState(null);
  const [problem, setProblem] = useState("");
  const load = async () => {
    try {
      const found = await request(`/jobs/${id}?text=false`);
      if (found.state === "succeeded") setTranscript(await request(`/jobs/${id}/transcript?format=json`));
      setJob(found);
    } catch (error) {
      setProblem(error.message);
    }
  };
  useEffect(() => { load(); }, [id]);
  if (problem) return html`<p role="alert" class="problem">${problem}</p>`;
  if (!job) return html`<p class="quiet">${text.loading}</p>`;
  return html`
    <h1 class="title">${job.source.name}</h1>
    ${job.state === "succeeded"
      ? html`<${Transcript} job=${job} transcript=${transcript} at=${Number(query.get("t")) || 0} />`
      : html`<${Partial} job=${job} onEnd=${load} />`}`;
}

// What a job that has not succeeded (yet) has said so far.
function Partial({ job: first, onEnd }) {
  const [job, setJob] = useState(first);
  const [said, setSaid] = useState("");
  useEffect(() => {
    let timer = null;
    const read = () => {
      timer ??= setTimeout(async () => {
        timer = null;
        const found = await request(`/jobs/${job.id}/transcript?partial=true&format=json`).catch(() => null);
        if (found) setSaid(found.text);
      }, PARTIAL_EVERY_MS);
    };
    request(`/jobs/${job.id}/transcript?partial=true&format=json`).then((found) => setSaid(found.text), () => {});
    if (!["queued", "running"].includes(first.state)) return undefined;
    const stop = follow(`/jobs/${job.id}/events`, {
      progress: (progress) => setJob((before) => ({ ...before, progress, waiting_for: progress.waiting_for })),
      segments: read,
      state: ({ state, error }) => {
        setJob((before) => ({ ...before, state, error }));
        if (state === "queued" || state === "running") return;
        stop();
        if (state === "succeeded") onEnd();
      },
    });
    return () => { clearTimeout(timer); stop(); };
  }, []);
  return html`<div class="job"><div class="state"><${State} job=${job} /></div></div>
    ${said && html`<p class="quiet">${text.soFar}</p>`}
    <p class="text">${said}</p>`;
}

// Who speaks in a segment, as far as the transcript says: one of its speakers, or else a channel.
export function nameOf(segment, speakers) {
  const speaker = segment.speaker ?? null;
  if (speaker === null) return segment.channel === null ? null : text.channel(segment.channel + 1);
  return speakers?.find((each) => each.id === speaker)?.name ?? text.speaker(speaker + 1);
}

// Where nobody may write, as by a share link, it is read only.
export function Transcript({ job, transcript, at }) {
  const box = useRef(null);
  const [player] = useState(() => Object.assign(new Audio(), { preload: "metadata", src: `/jobs/${job.id}/audio` }));
  const [words, setWords] = useState(null);
  const [isCorrecting, setCorrecting] = useState(false);
  const [isUnsure, setUnsure] = useState(false);
  const follows = useRef(true);
  const corrections = useRef(null);
  useEffect(() => {
    const made = new Words(box.current, transcript, clock, nameOf);
    corrections.current = may("jobs:write") ? new Corrections(job.id, made) : null;
    setWords(made);
    if (at) seek(player, at, made, follows);
    return () => made.close();
  }, [transcript]);
  useEffect(() => () => {
    player.pause();
    player.removeAttribute("src");
    player.load(); // ends what is under way
  }, []);
  useEffect(() => {
    if (!words) return undefined;
    let frame = 0;
    const step = () => {
      const entered = words.show(player.currentTime);
      if (entered && follows.current && !player.paused) entered.scrollIntoView({ block: "nearest" });
      frame = player.paused ? 0 : requestAnimationFrame(step);
    };
    for (const name of ["play", "pause", "seeked", "timeupdate"]) player.addEventListener(name, step);
    const keys = (event) => handleKey(event, player, follows, () => correct(words.wordAt(player.currentTime)));
    addEventListener("keydown", keys);
    return () => {
      cancelAnimationFrame(frame);
      for (const name of ["play", "pause", "seeked", "timeupdate"]) player.removeEventListener(name, step);
      removeEventListener("keydown", keys);
    };
  }, [words]);
  const correct = (number) => {
    corrections.current?.edit(words.places[Math.max(0, number ?? 0)]?.[0]);
  };
  const click = (event) => {
    if (event.target.closest("textarea") || !getSelection().isCollapsed) return;
    const found = words.at(event.clientX, event.clientY);
    if (!found) return;
    if (isCorrecting) corrections.current.edit(found.segment.id);
    else seek(player, found.start, words, follows);
  };
  return html`
    <p class="quiet">${text.facts(transcript.language, clock(transcript.duration_s), job.model)}</p>
    ${transcript.warnings.length > 0 && html`<ul class="warnings">${transcript.warnings.map(({ detail }) => html`<li>${detail}</li>`)}</ul>`}
    <${Player} job=${job} player=${player} duration=${transcript.duration_s} follows=${follows} />
    <div class="buttons">
        <button aria-pressed=${isUnsure} onClick=${() => { words.markUnsure(!isUnsure); setUnsure(!isUnsure); }}>${text.unsure}</button>
        ${corrections.current && html`
          <button aria-pressed=${isCorrecting} onClick=${() => setCorrecting(!isCorrecting)}>${text.correct}</button>
          <${UndoRedo} corrections=${corrections.current} />`}
        <${Downloads} job=${job} />
        ${may("jobs:write") && html`<${Reference} job=${job} /><${Share} job=${job} />`}
        <details class="menu"><summary>${text.keys}</summary><dl class="panel">
          ${[...text.keyList, ...(corrections.current ? text.correctionKeys : [])].map(([key, does]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${does}</dd></div>`)}</dl></details>
    </div>
    ${corrections.current && html`<${Conflict} corrections=${corrections.current} />`}
    ${words?.overlaps && html`<p class="quiet">${text.overlapHint}</p>`}
    <article class=${isCorrecting ? "text correcting" : "text"} lang=${transcript.language} aria-label=${text.transcript}
      ref=${box} onClick=${click}></article>`;
}

function seek(player, seconds, words, follows) {
  player.currentTime = seconds;
  const entered = words.show(seconds);
  if (follows.current) entered?.scrollIntoView({ block: "nearest" });
}

const skip = (player, seconds) => (player.currentTime = Math.max(0, player.currentTime + seconds));

const play = (player) => (player.paused ? player.play().catch(() => announce(text.noAudio)) : player.pause());

function changeSpeed(player, steps) {
  const now = SPEEDS.findIndex((speed) => speed >= player.playbackRate);
  player.playbackRate = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, now + steps))];
}

// The reader's keys, where nothing has the focus that takes them itself.
function handleKey(event, player, follows, onCorrect) {
  const { key, target } = event;
  if (target.closest("input:not([type=range]), textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === " " && target.closest("button, summary, a")) return;
  const actions = {
    " ": () => play(player), k: () => play(player),
    j: () => skip(player, -STEP_S), l: () => skip(player, STEP_S),
    "[": () => changeSpeed(player, -1), "]": () => changeSpeed(player, 1),
    f: () => player.dispatchEvent(new Event("follow")), e: onCorrect,
  };
  const act = actions[key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
}

function Player({ job, player, duration, follows }) {
  const [state, setState] = useState({ paused: true, at: 0, speed: 1, isGone: false });
  const [isFollowing, setFollowing] = useState(true);
  useEffect(() => {
    const look = () => setState((before) => ({ ...before, paused: player.paused, at: Math.floor(player.currentTime), speed: player.playbackRate }));
    const gone = () => setState((before) => ({ ...before, isGone: true }));
    const toggle = () => { follows.current = !follows.current; setFollowing(follows.current); };
    const events = [["play", look], ["pause", look], ["timeupdate", look], ["seeked", look], ["ratechange", look], ["error", gone], ["follow", toggle]];
    for (const [name, handle] of events) player.addEventListener(name, handle);
    return () => { for (const [name, handle] of events) player.removeEventListener(name, handle); };
  }, []);
  return html`<div class="player">
    <button class="primary play" onClick=${() => play(player)} disabled=${state.isGone}>${state.paused ? text.play : text.pause}</button>
    <span class="numbers time">${clock(state.at)} / ${clock(duration)}</span>
    <${Waveform} job=${job} player=${player} duration=${duration} />
    <label>${text.speed} <select value=${state.speed} onChange=${(event) => (player.playbackRate = Number(event.target.value))}>
      ${SPEEDS.map((speed) => html`<option value=${speed}>${speed}×</option>`)}</select></label>
    <button aria-pressed=${isFollowing} onClick=${() => player.dispatchEvent(new Event("follow"))}>${text.follow}</button>
    ${state.isGone && html`<span class="quiet">${text.noAudio}</span>`}
  </div>`;
}

function UndoRedo({ corrections }) {
  const { canUndo, canRedo } = useSignal(corrections.state);
  return html`<button disabled=${!canUndo} onClick=${() => corrections.undo()}>${text.undo}</button>
    <button disabled=${!canRedo} onClick=${() => corrections.redo()}>${text.redo}</button>`;
}

function Downloads({ job }) {
  const stem = job.source.name.replace(/\.[^.]*$/, "");
  const link = (format, query, name, label) => html`<li><a download=${`${stem}${name}.${format}`} href=${`/jobs/${job.id}/transcript?format=${format}${query}`}>${label}</a></li>`;
  return html`<details class="menu"><summary>${text.download}</summary><ul class="panel">
    ${FORMATS.map((format) => link(format, "", "", text.formats[format]))}
    ${link("txt", "&original=true", ".original", text.original)}
    <li><a download=${job.source.name} href=${`/jobs/${job.id}/audio`}>${text.audio}</a></li></ul></details>`;
}

// Makes the text as it is shown what was really said: error rates are measured against it.
function Reference({ job }) {
  const use = async () => {
    try {
      const answer = await fetch(`/jobs/${job.id}/transcript?format=txt`);
      if (!answer.ok) throw new Error(text.noAnswer);
      const said = await answer.text();
      await request(`/jobs/${job.id}/reference`, { method: "POST", json: { reference: said } });
      announce(text.isReference);
    } catch (error) {
      announce(error.message);
    }
  };
  return html`<button onClick=${use}>${text.useAsReference}</button>`;
}

// Somebody else has changed the segment meanwhile: both texts, of which one is chosen.
function Conflict({ corrections }) {
  const conflict = useSignal(corrections.conflict);
  if (!conflict) return null;
  const close = ({ currentTarget: dialog }) => (dialog.returnValue === "mine" ? corrections.useMine() : corrections.keepTheirs());
  return html`<${Dialog} label="conflict" onClose=${close}>
    <h2 id="conflict">${text.conflict}</h2>
    <h3>${text.theirs}</h3><p>${conflict.theirs || text.removed}</p>
    <h3>${text.mine}</h3><p>${conflict.mine || text.removed}</p>
    <form method="dialog" class="actions"><button value="">${text.keepTheirs}</button>
      <button value="mine" class="primary">${text.useMine}</button></form>
  <//>`;
}
