// A daemon for the tests, and work for it, over HTTP.

import { execFileSync, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const binary = process.env.COORDINATED ?? "coordinated";

const MADE_UP_RATES = `
import random, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1])
random.seed(1)
minute = int(time.time()) // 60 * 60
db.execute("DELETE FROM history")
for number, spec in enumerate(["compress", "celsius"]):
    (id,) = db.execute("SELECT id FROM work_spec WHERE name = ?", [spec.encode()]).fetchone() or db.execute(
        "SELECT id FROM work_spec WHERE name = ?", [spec]).fetchone()
    for ago in range(0, 90 * 24):
        ended = random.randint(100, 900) if ago % 24 < 9 + number * 4 else random.randint(0, 60)
        db.execute("INSERT OR REPLACE INTO history VALUES (?, 3600, ?, ?, ?, ?, ?, 0, ?)",
                   [id, minute // 3600 * 3600000000 - ago * 3600000000, ended, ended, ended, ended // 15, ended * 40000])
    for ago in range(0, 24 * 60):
        ended = random.randint(8, 20) + (12 if ago % 20 < 6 else 0) if ago > 15 * number else 0
        ended = ended if ago % 600 < 400 else ended // 8
        db.execute("INSERT OR REPLACE INTO history VALUES (?, 60, ?, ?, ?, ?, ?, 0, ?)",
                   [id, (minute - ago * 60) * 1000000, max(0, ended + random.randint(-4, 4)), ended, ended, ended // 9, ended * 40000])
db.commit()
`;

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

  /** Waits until the overview has a chart: what happens is written after some seconds. */
  async charts() {
    for (let tries = 0; tries < 150; tries++) {
      const answer = await fetch(`${this.root}/ui/`);
      if ((await answer.text()).includes("class=\"chart\"")) return;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    throw new Error("there is no chart");
  }

  /** What docs/tutorial.md does, in the middle of it. The rates of the hour before are made up. */
  async followTutorial() {
    for (const [spec, name] of [["compress", (n) => `texts/${n}.txt`], ["celsius", (n) => `day-${n}`], ["primes", (n) => `${n}`]]) {
      await this.call("set_work_spec", { name: spec });
      const units = [...Array(1000).keys()].map((n) => [name(String(n + 1).padStart(4, "0")), { fahrenheit: (n + 1) / 10 }]);
      await this.call("add_work_units", spec, units);
    }
    await this.call("worker_heartbeat", "laptop", "RUN", 600, {}, null);
    for (const worker of ["laptop-1", "laptop-2"]) await this.call("worker_heartbeat", worker, "RUN", 600, {}, "laptop");
    const traceback = 'Traceback (most recent call last):\n  File "celsius.py", line 5, in <module>\n'
      + "ValueError: could not convert string to float: 'n/a'";
    const done = async (worker, spec, count, report) => {
      const units = await this.call("get_work", worker, { work_spec_names: [spec], max_jobs: count });
      if (!report) return;
      const updates = units.map(([, key]) => [key, { worker_id: worker, ...report }]);
      await this.call("update_work_units", spec, updates);
    };
    await done("laptop-1", "compress", 1000, { status: 4 });
    await done("laptop-1", "celsius", 10, { status: 5, data: { fahrenheit: "n/a", traceback } });
    await done("laptop-1", "celsius", 600, { status: 4 });
    await done("laptop-1", "celsius", 1, null);
    await done("laptop-2", "celsius", 1, null);
    this.process.kill("SIGTERM");
    await this.ended;
    execFileSync("python3", ["-c", MADE_UP_RATES, join(this.folder, "coordinate.db")]);
    this.run(["--http", "127.0.0.1:0"]);
    this.root = await this.ready;
    await this.call("worker_heartbeat", "laptop", "RUN", 600, {}, null);
  }

  /** A worker gets a unit, and reports on it. Returns its name. */
  async take(worker, report) {
    const [, unit] = await this.call("get_work", worker, { work_spec_names: ["thumbnails"] });
    if (report) await this.call("update_work_unit", "thumbnails", unit, { worker_id: worker, ...report });
    return unit;
  }
}
