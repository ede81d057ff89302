// The page: login, the address (#/jobs/ID), and the view that it names.

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { logIn, logOut, refreshSession, session } from "./api.js";
import { Jobs } from "./jobs.js";
import { Elapsed } from "./recorder.js";
import { current } from "./recordings.js";
import { text } from "./strings.js";
import { announce, announced, html, Question, useSignal } from "./ui.js";

// A view that is loaded when it is first shown.
const later = (load) => {
  let View = null;
  return function Later(props) {
    const [, show] = useState(false);
    const [problem, setProblem] = useState("");
    useEffect(() => {
      if (!View) load().then((loaded) => { View = loaded; show(true); }, () => setProblem(text.noAnswer));
    }, []);
    if (problem) return html`<p role="alert">${problem}</p>`;
    return View ? html`<${View} ...${props} />` : html`<p class="quiet">${text.loading}</p>`;
  };
};

const VIEWS = [
  [/^\/$/, () => text.jobs, Jobs],
  [/^\/jobs\/([0-9a-f-]{36})$/, () => text.transcript, later(() => import("./reader.js").then((module) => module.Reader))],
  [/^\/search$/, () => text.search, later(() => import("./search.js").then((module) => module.Search))],
  [/^\/fleet$/, () => text.fleet, later(() => import("./fleet.js").then((module) => module.Fleet))],
];

const MENU = [["#/", text.jobs], ["#/search", text.search], ["#/fleet", text.fleet]];

function readAddress() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  return { path, query: new URLSearchParams(query) };
}

function Page() {
  const known = useSignal(session);
  const recorder = useSignal(current);
  const [address, setAddress] = useState(readAddress());
  const main = useRef(null);
  useEffect(() => {
    let timer = null;
    const look = () => refreshSession().catch(() => { timer = setTimeout(look, 3000); });
    look();
    const move = () => {
      setAddress(readAddress());
      main.current?.focus({ preventScroll: true });
    };
    addEventListener("hashchange", move);
    return () => { clearTimeout(timer); removeEventListener("hashchange", move); };
  }, []);
  const found = VIEWS.map(([pattern, title, View]) => ({ match: pattern.exec(address.path), title, View }))
    .find(({ match }) => match);
  useEffect(() => { document.title = `${found ? found.title() : text.notFound} · Longhand`; }, [address.path]);
  const isIn = known && known.tenant;
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>${text.skip}</a>
    <header>
      <a class="brand" href="#/">Longhand</a>
      ${isIn && html`<nav aria-label=${text.menu}>
        ${MENU.map(([href, label]) => html`<a href=${href} aria-current=${href === `#${address.path}` ? "page" : null}>${label}</a>`)}
        <a href="/live">${text.live}</a>
      </nav>`}
      ${recorder && html`<a class="recording" href="#/">${text.recording} <${Elapsed} since=${recorder.recording.startedAt} /></a>`}
      ${isIn && known.auth === "on" && html`<button class="plain" onClick=${() => logOut().catch((error) => announce(error.message))}>${text.logOut}</button>`}
    </header>
    <main id="main" tabindex="-1" ref=${main}>
      ${!known ? html`<p class="quiet">${text.loading}</p>`
        : !isIn ? html`<${LogIn} />`
        : found ? html`<${found.View} key=${address.path} id=${found.match[1]} query=${address.query} />`
        : html`<p>${text.notFound}</p>`}
    </main>
    <${Question} />
    <${Announcer} />`;
}

function Announcer() {
  const said = useSignal(announced);
  return html`<p class=${said ? "said shown" : "said"} role="status" aria-live="polite"
    onAnimationEnd=${() => (announced.value = "")}>${said}</p>`;
}

function LogIn() {
  const [problem, setProblem] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    setProblem("");
    try {
      await logIn(new FormData(event.target).get("key"));
    } catch (error) {
      setProblem(error.status === 401 ? text.wrongKey : error.message);
    }
  };
  return html`<form class="login" onSubmit=${submit}>
    <h1>${text.logInTitle}</h1>
    <label for="key">${text.key}</label>
    <input id="key" name="key" type="password" required autocomplete="current-password" autofocus
      aria-describedby="key-hint" aria-invalid=${problem ? "true" : null} />
    <p id="key-hint" class="quiet">${text.keyHint}</p>
    <button class="primary">${text.logIn}</button>
    <p role="alert" class="problem">${problem}</p>
  </form>`;
}

const SharedJob = later(() => import("./shared.js").then((module) => module.Shared));

// What a share link opens: one transcript, and no way to anything else.
function SharedPage() {
  const main = useRef(null);
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>${text.skip}</a>
    <header><span class="brand">Longhand</span></header>
    <main id="main" tabindex="-1" ref=${main}><${SharedJob} /></main>
    <${Announcer} />`;
}

render(html`<${location.pathname === "/s" ? SharedPage : Page} />`, document.getElementById("app"));
