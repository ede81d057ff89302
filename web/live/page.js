// The page /live: a session of /ws/stt with the microphone, finals as paragraphs, the partial below them.

import { openMicrophone } from "/live/microphone.js";

const [toggle, language, key, status, said, saying] =
  ["toggle", "language", "key", "status", "said", "saying"].map((id) => document.getElementById(id));
const send = (mine, message) => mine.socket.send(JSON.stringify(message));
let session = null;

toggle.onclick = () => (session ? stop() : start());

async function start() {
  const mine = (session = {});
  toggle.textContent = "Stop";
  status.textContent = "Asking for the microphone.";
  try {
    mine.microphone = await openMicrophone((pcm) => mine.started && mine.socket.send(pcm));
  } catch (error) {
    return over(mine, `No microphone: ${error.message}`);
  }
  if (mine.stopped) return over(mine, "The microphone is off.");
  const protocols = key.value.trim() ? ["longhand", key.value.trim()] : [];
  mine.socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/ws/stt`, protocols);
  mine.socket.onopen = () => {
    const config = { sample_rate: 16000, ...(language.value.trim() && { lang_code: language.value.trim() }) };
    send(mine, { type: "start_session", session_id: crypto.randomUUID?.() ?? `live-${Math.random()}`, config });
  };
  mine.socket.onmessage = ({ data }) => receive(mine, JSON.parse(data));
  mine.socket.onclose = () => over(mine, mine.problem ?? "The server has closed the connection.");
}

// A second call does not wait for the last words.
function stop() {
  session.stopped = true;
  session.microphone?.close();
  status.textContent = "Waiting for the last words.";
  if (session.started) {
    session.started = false;
    send(session, { type: "flush" });
    send(session, { type: "end_session" });
  } else {
    session.problem = "The microphone is off.";
    session.socket?.close();
  }
}

function receive(mine, message) {
  if (message.type === "session_started") {
    mine.started = !mine.stopped;
    status.textContent = "Listening.";
  } else if (message.type === "partial_transcript") {
    showPartial(message);
  } else if (message.type === "final_transcript") {
    if (mine.started) status.textContent = "Listening.";
    saying.replaceChildren();
    if (message.text) said.append(Object.assign(document.createElement("p"), { textContent: message.text }));
  } else if (message.type === "error") {
    status.textContent = mine.problem = message.message;
    if (!mine.started && !mine.stopped) mine.socket.close(); // the session has not begun
  } else if (message.type === "session_ended" && message.reason === "completed") {
    mine.problem = "The microphone is off.";
  }
}

// What stays is darker than what may still change.
function showPartial({ text, stable_text: stable = "" }) {
  const start = text.startsWith(stable) ? stable : "";
  saying.replaceChildren(Object.assign(document.createElement("b"), { textContent: start }), text.slice(start.length));
}

function over(mine, sentence) {
  if (session !== mine) return;
  mine.microphone?.close();
  session = null;
  saying.replaceChildren();
  toggle.textContent = "Start";
  status.textContent = sentence;
}
