// The page /live: a session with the microphone, finals as paragraphs, the partial below them.

import { openMicrophone } from "/live/microphone.js";
import { Session } from "/live/session.js";

const [toggle, language, save, key, status, said, saying] =
  ["toggle", "language", "save", "key", "status", "said", "saying"].map((id) => document.getElementById(id));
let talk = null;
// A key is asked for where one is wanted and nobody is logged in.
const ask = (tenant) => (document.getElementById("asking").hidden = Boolean(tenant));
fetch("/session").then((answer) => answer.json()).then(({ tenant }) => ask(tenant), () => ask(null));

toggle.onclick = () => (talk ? stop() : start());

async function start() {
  const mine = (talk = {});
  toggle.textContent = "Stop";
  status.textContent = "Asking for the microphone.";
  try {
    mine.microphone = await openMicrophone((pcm) => mine.session?.send(pcm));
  } catch (error) {
    return over(mine, `No microphone: ${error.message}`);
  }
  if (mine.stopped) return over(mine);
  const config = { sample_rate: 16000, save: save.checked, ...(language.value.trim() && { lang_code: language.value.trim() }) };
  mine.session = new Session(`${location.protocol.replace("http", "ws")}//${location.host}/ws/stt`, askProtocols, config, {
    onMessage: show,
    onOpen: () => tell("Listening."),
    onLost: () => tell("The connection is lost, and will be tried again. What you say is kept."),
    onEnd: (problem) => over(mine, problem),
  });
}

// Where the page at / is logged in, each connection has a token of its own, and no key is needed.
async function askProtocols() {
  if (key.value.trim()) return ["longhand", key.value.trim()];
  const { csrf_token: csrf } = await (await fetch("/session")).json();
  const answer = csrf && (await fetch("/tokens", { method: "POST", headers: { "X-CSRF-Token": csrf } }));
  return answer?.ok ? ["longhand", (await answer.json()).token] : [];
}

// A second call does not wait for the last words.
function stop() {
  if (talk.stopped) return talk.session ? talk.session.finish() : undefined;
  talk.stopped = true;
  talk.microphone?.close();
  status.textContent = "Waiting for the last words.";
  talk.session?.end();
}

const tell = (sentence) => (status.textContent = talk.stopped ? status.textContent : sentence);

function show(message) {
  if (message.type === "partial_transcript") {
    showPartial(message);
  } else if (message.type === "final_transcript") {
    saying.replaceChildren();
    tell("Listening.");
    if (message.text) said.append(Object.assign(document.createElement("p"), { textContent: message.text }));
  } else if (message.type === "error") {
    status.textContent = message.message;
  }
}

// What stays is darker than what may still change.
function showPartial({ text, stable_text: stable = "" }) {
  const start = text.startsWith(stable) ? stable : "";
  saying.replaceChildren(Object.assign(document.createElement("b"), { textContent: start }), text.slice(start.length));
}

function over(mine, problem = "The microphone is off.") {
  if (talk !== mine) return;
  mine.microphone?.close();
  talk = null;
  saying.replaceChildren();
  toggle.textContent = "Start";
  status.textContent = problem;
}
