// A daemon for the tests, and work for it, over HTTP.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const binary = process.env.COORDINATED ?? "coordinated";

export class Daemon {
  /** Starts one on a new file and a free port, with further arguments of `serve`. */
  static async start(...more) {
    const daemon = new Daemon();
    daemon.folder = await mkdtemp(join(tmpdir(), "coordinated-browser-"));
    daemon.run(["--http", "127.0.0.1:0", ...more]);
    daemon.root = await daemon.ready;
    return daemon;
  }

  run(args) {
    const fixed = ["serve", "--db", join(this.folder, "coordinate.db"), "--listen", "127.0.0.1:0"];
    this.process = spawn(binary, [...fixed, ...args], { stdio: ["ignore", "inherit", "pipe"] });
    this.ended = new Promise((resolve) => this.process.once("exit", resolve));
    let log = "";
    this.ready = new Promise((resolve, reject) => {
      this.process.once("error", reject);
      this.process.once("exit", () => reject(new Error(`the daemon has ended: ${log}`)));
      this.process.stderr.on("data", (data) => {
        log += data;
        const line = /serving HTTP at (\S+)/.exec(log);
        if (line && log.includes("listening on")) resolve(line[1].replace(/\/$/, ""));
      });
    });
    // It may end while nobody waits for it.
    this.ready.catch(() => {});
  }

  async kill() {
    this.process.kill("SIGKILL");
    await this.ended;
  }

  async stop() {
    this.process.kill("SIGTERM");
    await this.ended;
    await rm(this.folder, { recursive: true });
  }

  /** Calls a method. */
  async call(method, ...params) {
    const headers = this.token ? { authorization: `Bearer ${this.token}` } : {};
    const answer = await fetch(`${this.root}/rpc/${method}`, { method: "POST", headers, body: JSON.stringify(params) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method}: ${text}`);
    return JSON.parse(text);
  }

  /** Makes a token of this scope, and returns its secret. */
  async makeToken(scope) {
    const { token } = await this.call("create_token", scope, { scopes: [scope] });
    return token;
  }

  /** Adds a work spec with units in each status, workers, and locks. */
  async fill() {
    await this.call("set_work_spec", { name: "thumbnails", retries: 0, max_running: 40, note: "for the catalogue" });
    await this.call("set_work_spec", { name: "reports", schedule: "0 3 * * *", timezone: "Europe/Berlin" });
    await this.call("control_work_spec", "reports", { status: 2, reason: "month's end", by: "me" });
    const units = [...Array(130).keys()].map((n) => [`image-${String(n).padStart(4, "0")}.jpg`, { width: 80, n }]);
    await this.call("add_work_units", "thumbnails", units);
    await this.call("add_work_units", "thumbnails", [["later.jpg", {}, { delay: 5000 }]]);
    for (const [n, message] of ["KeyError: 'width'", "KeyError: 'width'", "OSError: no space left"].entries()) {
      const traceback = `Traceback (most recent call last):\n  File "thumbnail.py", line 7, in make\n${message}`;
      await this.take("worker-1", { status: 5, data: { width: 80, n, traceback } });
    }
    for (let n = 0; n < 4; n++) await this.take("worker-1", { status: 4, data: { width: 80, done: true } });
    await this.take("worker-2", null);
    await this.call("worker_heartbeat", "host-1", "IDLE", 600, { host: "a.example.org" }, null);
    for (const worker of ["worker-1", "worker-2"]) {
      await this.call("worker_heartbeat", worker, "RUN", 600, { host: "a.example.org", pid: 17 }, "host-1");
    }
    await this.call("lock", "worker-1", 1000, [["catalogue", "2026"], ["catalogue", "2027"]]);
  }

  /** A worker gets a unit, and reports on it. Returns its name. */
  async take(worker, report) {
    const [, unit] = await this.call("get_work", worker, { work_spec_names: ["thumbnails"] });
    if (report) await this.call("update_work_unit", "thumbnails", unit, { worker_id: worker, ...report });
    return unit;
  }
}
