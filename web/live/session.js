// A session of /ws/stt that goes on after a lost connection. Audio is kept until its text is final, and what a new
// connection lacks is sent again. Longhand's docs/live.md describes the messages.

const BYTES_PER_MS = 32; // s16le, mono, at 16 kHz
const KEPT_BYTES = 35_000 * BYTES_PER_MS; // a segment has at most 30 s; its final may come a little later
const PIECE_BYTES = 500 * BYTES_PER_MS;
const RETRY_MS = 500;
const GIVE_UP_MS = 45_000; // a server keeps a session for a minute
const FATAL = ["SESSION_DISPLACED", "INTERNAL_ERROR"];
const LATER = ["MAX_SESSIONS_REACHED", "QUEUE_FULL", "QUEUE_CONGESTION"]; // errors with which it may go on later

const bytesOf = (ms) => 2 * Math.round((ms * BYTES_PER_MS) / 2); // of whole samples

// The latest audio, up to KEPT_BYTES, by the positions of its bytes.
export class Kept {
  constructor() {
    this.pieces = [];
    this.start = this.end = 0;
  }

  add(pcm) {
    this.pieces.push(pcm);
    this.end += pcm.byteLength;
    this.forget(this.end - KEPT_BYTES);
  }

  // Drops the pieces that end before a position.
  forget(position) {
    while (this.pieces.length && this.start + this.pieces[0].byteLength <= position) this.start += this.pieces.shift().byteLength;
  }

  // What lies after a position, in messages; what is not kept any more is silence.
  *after(position) {
    for (let at = position; at < this.start; at += PIECE_BYTES) yield new ArrayBuffer(Math.min(PIECE_BYTES, this.start - at));
    let at = this.start;
    for (const piece of this.pieces) {
      const skipped = Math.max(0, position - at);
      at += piece.byteLength;
      if (skipped < piece.byteLength) yield piece.slice(skipped);
    }
  }
}

// `protocols` are those of the WebSocket, or an async function that is asked for them at each connection.
// Tells by calling onMessage(message) for the server's messages, onOpen() whenever the session begins or goes on, onLost()
// when its connection is lost, and onEnd(problem) once: without a problem if nothing is missing.
export class Session {
  constructor(url, protocols, config, { onMessage, onOpen, onLost, onEnd }) {
    Object.assign(this, { url, protocols, config, onMessage, onOpen, onLost, onEnd });
    this.kept = new Kept();
    this.origin = 0; // position of the session's first byte in what was kept
    this.token = this.socket = this.lostAt = null;
    this.lastSegment = "";
    this.isOpen = this.isEnding = this.isOver = false;
    this.connect();
  }

  // Takes an ArrayBuffer of s16le, mono, at 16 kHz.
  send(pcm) {
    if (this.isEnding || this.isOver) return;
    this.kept.add(pcm);
    if (!this.isOpen) return;
    // A dead connection takes nothing, and what waits for it must not pile up.
    if (this.socket.bufferedAmount > KEPT_BYTES) this.lose(this.socket);
    else this.socket.send(pcm);
  }

  // Takes no more audio; onEnd comes after the last final.
  end() {
    this.isEnding = true;
    if (this.isOpen) this.sendEnd();
    else if (!this.lostAt) this.finish();
  }

  // Ends at once; called by itself when there is nothing to come.
  finish(problem) {
    if (this.isOver) return;
    this.isOver = true;
    this.socket?.close();
    this.onEnd(problem);
  }

  async connect() {
    // A connection without a credential is refused, and tried again like one that was lost.
    const protocols = typeof this.protocols === "function" ? await this.protocols().catch(() => []) : this.protocols;
    if (this.isOver) return;
    const socket = (this.socket = new WebSocket(this.url, protocols));
    socket.onopen = () => (this.token ? this.ask({ resume_token: this.token, last_segment: this.lastSegment }) : this.askAnew());
    socket.onmessage = ({ data }) => socket === this.socket && !this.isOver && this.receive(JSON.parse(data));
    socket.onclose = () => socket === this.socket && this.lose(socket);
  }

  ask(members) {
    this.socket.send(JSON.stringify({ type: "start_session", ...members }));
  }

  // Asks for a session of what has no text yet.
  askAnew() {
    Object.assign(this, { token: null, lastSegment: "", origin: this.kept.start });
    this.ask({ config: this.config });
  }

  sendEnd() {
    for (const type of ["flush", "end_session"]) this.socket.send(JSON.stringify({ type }));
  }

  receive(message) {
    const { type, code, reason } = message;
    if (type === "session_started") return this.begin(message);
    if (type === "error" && !this.isOpen) {
      if (code === "SESSION_NOT_FOUND") return this.askAnew();
      // The server closes the connection, and another is tried.
      return this.lostAt && LATER.includes(code) ? undefined : this.finish(message.message);
    }
    if (type === "error" && FATAL.includes(code)) return this.finish(message.message);
    // "error": the server stops, or has to; another may go on.
    if (type === "session_ended" && reason !== "error") return this.finish(reason === "completed" ? undefined : `The session has ended: ${reason}.`);
    if (type === "final_transcript") {
      this.lastSegment = message.segment_id;
      this.kept.forget(this.origin + bytesOf(message.start_ms + message.audio_duration_ms));
    }
    this.onMessage(message);
  }

  begin({ resume_token: token, acked_ms: ackedMs }) {
    Object.assign(this, { token, isOpen: true, lostAt: null });
    for (const piece of this.kept.after(this.origin + bytesOf(ackedMs))) this.socket.send(piece);
    if (this.isEnding) this.sendEnd();
    this.onOpen();
  }

  // Goes on with another connection than this one, if there was a session.
  lose(socket) {
    if (this.isOver) return;
    if (!this.isOpen && !this.lostAt) return this.finish("The server cannot be reached, or wants an API key.");
    this.socket = null;
    socket.close();
    if (this.isOpen) {
      this.isOpen = false;
      this.lostAt = Date.now();
      this.onLost();
    }
    if (Date.now() - this.lostAt > GIVE_UP_MS) return this.finish("The connection was lost.");
    setTimeout(() => this.isOver || this.connect(), RETRY_MS);
  }
}
