// nginx in front of a daemon, with the configuration that docs/page.md shows.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const binary = process.env.NGINX ?? "/usr/sbin/nginx";

/** A port that was free a moment ago. */
async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Nginx {
  static async start(daemon) {
    const nginx = new Nginx();
    nginx.folder = await mkdtemp(join(tmpdir(), "coordinated-nginx-"));
    const port = await freePort();
    const document = await readFile(new URL("../../docs/page.md", import.meta.url), "utf8");
    const [, shown] = /```nginx\n([^]*?)```/.exec(document);
    const location = shown
      .replace("http://127.0.0.1:5980", new URL(daemon.root).origin)
      .replace("/etc/nginx/jobs.htpasswd", join(nginx.folder, "passwords"));
    await writeFile(join(nginx.folder, "passwords"), "me:{PLAIN}secret\n");
    const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${nginx.folder}/${name};`);
    await writeFile(join(nginx.folder, "nginx.conf"), `
      daemon off; master_process off; pid ${nginx.folder}/pid; error_log stderr;
      events {}
      http { access_log off; ${paths.join(" ")} server { listen 127.0.0.1:${port}; ${location} } }`);
    nginx.process = spawn(binary, ["-e", "stderr", "-p", nginx.folder, "-c", join(nginx.folder, "nginx.conf")], { stdio: "inherit" });
    nginx.ended = new Promise((resolve, reject) => {
      nginx.process.once("exit", resolve);
      nginx.process.once("error", reject);
    });
    nginx.address = `http://127.0.0.1:${port}`;
    nginx.root = `http://queue.example.org:${port}`;
    for (let tries = 0; tries < 100; tries++) {
      if (await fetch(nginx.address).then(() => true, () => false)) return nginx;
      await Promise.race([nginx.ended, new Promise((resolve) => setTimeout(resolve, 100))]);
    }
    throw new Error("nginx does not answer");
  }

  async stop() {
    this.process.kill("SIGTERM");
    await this.ended;
    await rm(this.folder, { recursive: true });
  }
}
