// Requests to the API, with the CSRF token of the page's session; errors as their problems say.

import { signal } from "signals";
import { text } from "./strings.js";

export const session = signal(null); // null: not known yet; its tenant is null: nobody is logged in

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? text.noAnswer);
    Object.assign(this, { status, problem, code: problem.code });
  }
}

// Returns the answer's JSON, null if it has none. Throws Refused.
export async function request(path, { method = "GET", json, headers = {}, signal: aborted } = {}) {
  const all = { Accept: "application/json", ...csrf(), ...headers };
  if (json !== undefined) all["Content-Type"] = "application/json";
  const body = json === undefined ? undefined : JSON.stringify(json);
  let answer;
  try {
    answer = await fetch(path, { method, headers: all, body, signal: aborted });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, {});
  }
  const isJson = answer.headers.get("Content-Type")?.includes("json");
  const content = isJson ? await answer.json() : null;
  if (answer.ok) return content;
  if (answer.status === 401 && session.value?.tenant) await refreshSession();
  throw new Refused(answer.status, content ?? {});
}

export function csrf() {
  const token = session.value?.csrf_token;
  return token ? { "X-CSRF-Token": token } : {};
}

export async function refreshSession() {
  session.value = await request("/session");
}

export async function logIn(key) {
  session.value = await request("/session", { method: "POST", json: { key } });
}

export async function logOut() {
  await request("/session", { method: "DELETE" });
  await refreshSession();
}

export const may = (scope) => session.value?.scopes.includes(scope) ?? false;

const PAUSES_MS = [2000, 4000, 8000, 15000, 30000]; // between attempts after refusals, one after the other

// Follows Server-Sent Events by name, as long as the returned function is not called. onOpen comes with each
// connection: what happened before it may have been missed.
export function follow(path, handlers, { onOpen, onLost } = {}) {
  let source = null;
  let timer = null;
  let nRefusals = 0;
  const open = () => {
    source = new EventSource(path);
    source.onopen = () => { nRefusals = 0; onOpen?.(); };
    source.onerror = () => {
      onLost?.();
      // A refusal closes it for good: a proxy's 502 while the server restarts, too many streams, or the end of the session.
      if (source.readyState !== EventSource.CLOSED) return;
      const pause = PAUSES_MS[Math.min(nRefusals++, PAUSES_MS.length - 1)];
      timer = setTimeout(open, pause * (0.5 + Math.random() / 2)); // not all tabs at the same moment
      refreshSession().catch(() => {});
    };
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    }
  };
  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}
