// The operators' page in a real browser, on a real daemon.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { Daemon } from "./daemon.js";
import { Nginx } from "./nginx.js";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";

let browser;
before(async () => {
  const args = ["--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP queue.example.org 127.0.0.1"];
  browser = await chromium.launch({ executablePath, args });
});
after(() => browser?.close());

const WIDE = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };

const PAGES = [
  "/ui/",
  "/ui/spec/thumbnails",
  "/ui/spec/reports",
  "/ui/spec/thumbnails/units",
  "/ui/spec/thumbnails/units?status=failed",
  "/ui/spec/thumbnails/unit/image-0000.jpg",
  "/ui/spec/thumbnails/unit/image-0129.jpg",
  "/ui/spec/thumbnails/bulk?action=delete&status=failed",
  "/ui/failures",
  "/ui/workers",
  "/ui/workers?as=list",
  "/ui/workers?parent=host-1",
  "/ui/worker/host-1",
  "/ui/worker/worker-2",
  "/ui/locks",
  "/ui/operations",
  "/ui/audit",
  "/ui/audit?who=nobody",
  "/ui/daemon",
  "/ui/nowhere",
];

/** A page whose complaints are collected. */
async function open(daemon, options) {
  const context = await browser.newContext({ viewport: WIDE, ...options });
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (message) => {
    // The browser says so of a page that is not found, too.
    const isStatus = message.text().startsWith("Failed to load resource");
    if (["error", "warning"].includes(message.type()) && !isStatus) page.complaints.push(message.text());
  });
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.visit = (path) => page.goto(daemon.root + path, { waitUntil: "load" });
  return page;
}

/** By how many pixels a page is wider than the window. */
function tooWide(page) {
  return page.evaluate(() => Math.max(0, document.documentElement.scrollWidth - innerWidth));
}

async function withDaemon(run, ...more) {
  const daemon = await Daemon.start(...more);
  try {
    await daemon.fill();
    await run(daemon);
  } finally {
    await daemon.stop();
  }
}

test("no page complains, breaks its own policy, or has what axe-core objects to, in any look", () =>
  withDaemon(async (daemon) => {
    await daemon.charts();
    for (const [colorScheme, viewport] of [["light", WIDE], ["dark", WIDE], ["light", PHONE], ["dark", PHONE]]) {
      const page = await open(daemon, { colorScheme, viewport });
      for (const path of PAGES) {
        const look = `${path}, ${colorScheme}, ${viewport.width}`;
        await page.visit(path);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run());
        const found = violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]);
        assert.deepEqual(found, [], look);
        assert.deepEqual(page.complaints, [], look);
        assert.equal(await tooWide(page), 0, look);
      }
      await page.context().close();
    }
  }));

test("a live page changes by itself, and keeps what is selected, open, typed and scrolled", () =>
  withDaemon(async (daemon) => {
    const page = await open(daemon);
    await page.visit("/ui/");
    const available = page.locator("tbody tr", { hasText: "thumbnails" }).locator("td").first();
    assert.equal(await available.textContent(), "122");
    await daemon.call("add_work_units", "thumbnails", [["more.jpg", {}]]);
    await available.getByText("123").waitFor();
    // What is open stays open while the rest changes.
    await page.visit("/ui/spec/thumbnails");
    await page.getByText("Delete this work spec").click();
    await daemon.call("add_work_units", "thumbnails", [["more2.jpg", {}]]);
    await page.locator(".tabs b", { hasText: "124" }).waitFor();
    assert.ok(await page.getByRole("button", { name: "Delete" }).isVisible());
    // What is selected or typed is not touched.
    await page.visit("/ui/spec/thumbnails/units?status=available");
    await page.getByLabel("Select image-0010.jpg").check();
    await page.getByLabel("Select image-0012.jpg").click({ modifiers: ["Shift"] });
    // Another page shows that there was something to show.
    const other = await page.context().newPage();
    await other.goto(page.url());
    await daemon.call("add_work_units", "thumbnails", [["a-new-one.jpg", {}]]);
    await other.getByText("a-new-one.jpg").waitFor();
    assert.equal(await page.locator("input[name=unit]:checked").count(), 3);
    // Once nothing is selected, the page catches up.
    await other.close();
    await page.bringToFront();
    for (const unit of ["image-0010", "image-0011", "image-0012"]) await page.getByLabel(`Select ${unit}`).uncheck();
    await page.getByRole("heading", { name: "Units" }).click();
    await page.getByText("a-new-one.jpg").waitFor();
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  }));

test("a page says that it has lost contact, and that goes away by itself", async () => {
  const daemon = await Daemon.start();
  const page = await open(daemon);
  await page.visit("/ui/");
  const { port } = new URL(daemon.root);
  await daemon.kill();
  await page.locator("#lost").waitFor({ state: "visible" });
  daemon.run(["--http", `127.0.0.1:${port}`]);
  await daemon.ready;
  await page.locator("#lost").waitFor({ state: "hidden" });
  await page.context().close();
  await daemon.stop();
});

test("failures are retried, and units and locks removed, with buttons", () =>
  withDaemon(async (daemon) => {
    const page = await open(daemon);
    await page.visit("/ui/failures");
    await page.getByRole("row", { name: /KeyError/ }).getByText("Retry these").click();
    await page.getByRole("button", { name: "Retry 2 units" }).click();
    await page.getByText("done", { exact: true }).waitFor();
    assert.equal((await daemon.call("count_work_units", "thumbnails"))["5"], 1);

    await page.visit("/ui/spec/thumbnails");
    await page.getByLabel("Reason").fill("disk full");
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByText("disk full").first().waitFor();
    await page.getByRole("button", { name: "Resume" }).click();
    await page.getByRole("button", { name: "Pause" }).waitFor();
    await page.getByLabel("Weight").fill("33");
    await page.getByRole("button", { name: "Save" }).click();
    await page.waitForLoadState();
    assert.equal(await page.getByLabel("Weight").inputValue(), "33");

    await page.visit("/ui/spec/thumbnails/unit/image-0050.jpg");
    await page.getByText("Delete this unit").click();
    await page.getByLabel(/Type the name/).fill("thumbnails");
    await page.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("heading", { name: "Units" }).waitFor();
    assert.deepEqual(await daemon.call("get_work_unit_status", "thumbnails", ["image-0050.jpg"]), [null]);

    await page.visit("/ui/locks");
    await page.getByText("Break", { exact: true }).first().click();
    await page.getByRole("button", { name: "Break the lock" }).first().click();
    await page.getByRole("rowheader", { name: "2027" }).waitFor();
    assert.equal(await page.getByRole("rowheader", { name: "2026" }).count(), 0);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  }));

test("people sign in with a token, and see only the buttons that they may use", () =>
  withDaemon(async (daemon) => {
    daemon.token = await daemon.makeToken("admin");
    const [read, operate] = [await daemon.makeToken("read"), await daemon.makeToken("operate")];
    for (const [name, token, buttons, viewport] of [["read", read, 0, PHONE], ["operate", operate, 1, WIDE]]) {
      const page = await open(daemon, { viewport });
      await page.visit("/ui/spec/thumbnails");
      await page.getByLabel("Token").fill("cdt_wrong");
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.getByRole("alert").waitFor();
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      assert.deepEqual(violations.map(({ id }) => id), []);
      assert.equal(await tooWide(page), 0);
      await page.getByLabel("Token").fill(token);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.getByRole("heading", { name: "thumbnails" }).waitFor();
      assert.equal(await page.getByRole("button", { name: "Pause" }).count(), buttons);
      await page.visit("/ui/spec/thumbnails/units");
      assert.equal(await page.getByRole("checkbox").count(), 100 * buttons);
      // It stays up to date, as the same person.
      await page.visit("/ui/");
      const available = page.locator("tbody tr", { hasText: "thumbnails" }).locator("td").first();
      const before = Number(await available.textContent());
      await daemon.call("add_work_units", "thumbnails", [[`for-${name}.jpg`, {}]]);
      await available.getByText(String(before + 1)).waitFor();
      await page.getByRole("button", { name: "Sign out" }).click();
      await page.getByRole("heading", { name: "Sign in" }).waitFor();
      assert.deepEqual(page.complaints, []);
      await page.context().close();
    }
  }));

test("keys lead to pages, and colours and times are remembered", () =>
  withDaemon(async (daemon) => {
    const page = await open(daemon, { colorScheme: "light" });
    await page.visit("/ui/");
    await page.keyboard.press("w");
    await page.getByRole("heading", { name: "Workers" }).waitFor();
    await page.keyboard.press("a");
    await page.getByRole("heading", { name: "Audit" }).waitFor();
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keys" }).waitFor();
    await page.keyboard.press("Escape");
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await ground();
    await page.getByRole("button", { name: "Colours" }).click();
    await page.getByRole("button", { name: "Colours: light" }).click();
    const dark = await ground();
    assert.notEqual(dark, light);
    await page.visit("/ui/");
    assert.equal(await ground(), dark);
    await page.getByRole("button", { name: "Times: UTC" }).click();
    await page.visit("/ui/daemon");
    await page.getByRole("button", { name: "Times: local" }).waitFor();
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  }));

test("without JavaScript, under a base path, every page has its content and forms work", () =>
  withDaemon(async (daemon) => {
    const page = await open(daemon, { javaScriptEnabled: false });
    for (const path of PAGES) {
      await page.visit(path);
      assert.ok(await page.locator("main h1").isVisible(), path);
    }
    await page.visit("/ui/spec/thumbnails");
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByRole("button", { name: "Resume" }).waitFor();
    await page.context().close();
  }, "--http-base-path", "/jobs"));

test("an administrator makes, rotates and revokes a token, and a link signs in once", () =>
  withDaemon(async (daemon) => {
    daemon.token = await daemon.makeToken("admin");
    const page = await open(daemon);
    const { code } = await daemon.call("create_sign_in_code");
    await page.visit(`/ui/sign-in?code=${code}`);
    await page.getByRole("heading", { name: "Work specs" }).waitFor();
    await page.visit("/ui/daemon");
    await page.getByText("Make a token").click();
    await page.getByLabel("Name", { exact: true }).fill("grafana");
    await page.getByRole("checkbox", { name: "metrics" }).check();
    await page.getByRole("button", { name: "Make it" }).click();
    const secret = await page.getByRole("region", { name: "Secret" }).textContent();
    assert.match(secret, /^cdt_/);
    assert.equal((await fetch(`${daemon.root}/metrics`, { headers: { authorization: `Bearer ${secret}` } })).status, 200);
    await page.visit("/ui/daemon");
    await page.getByRole("button", { name: "Rotate grafana" }).click();
    assert.notEqual(await page.getByRole("region", { name: "Secret" }).textContent(), secret);
    await page.visit("/ui/daemon");
    await page.getByRole("button", { name: "Revoke grafana" }).click();
    await page.getByRole("cell", { name: "revoked" }).first().waitFor();
    await page.visit("/ui/audit?action=revoke_token");
    await page.getByText("grafana").waitFor();
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(violations.map(({ id }) => id), []);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  }));

test("behind nginx, as docs/page.md sets it up, the page works and stays up to date", () =>
  withDaemon(async (daemon) => {
    const nginx = await Nginx.start(daemon);
    try {
      const page = await open(daemon, { httpCredentials: { username: "me", password: "secret" } });
      await page.goto(`${nginx.root}/jobs/ui/`);
      const available = page.locator("tbody tr", { hasText: "thumbnails" }).locator("td").first();
      const before = Number(await available.textContent());
      await daemon.call("add_work_units", "thumbnails", [["through-nginx.jpg", {}]]);
      await available.getByText(String(before + 1)).waitFor();
      await page.getByRole("link", { name: "thumbnails" }).click();
      await page.getByRole("button", { name: "Pause" }).click();
      await page.getByRole("button", { name: "Resume" }).waitFor();
      assert.equal(new URL(page.url()).pathname, "/jobs/ui/spec/thumbnails");
      // Over HTTP, without TLS, browsers do not use this header, and say so.
      const isUnused = (complaint) => complaint.startsWith("The Cross-Origin-Opener-Policy header has been ignored");
      assert.deepEqual(page.complaints.filter((complaint) => !isUnused(complaint)), []);
      await page.context().close();
      const stranger = await fetch(`${nginx.address}/jobs/ui/`);
      assert.equal(stranger.status, 401);
    } finally {
      await nginx.stop();
    }
  }, "--http-base-path", "/jobs", "--http-host", "queue.example.org"));

// With SCREENSHOTS=FOLDER they are kept there: those in docs/screenshots/ are made this way.
test("screenshots are made of what the tutorial does", async () => {
  const daemon = await Daemon.start();
  try {
    await daemon.followTutorial();
    const shots = { overview: "/ui/", spec: "/ui/spec/celsius", failures: "/ui/failures", workers: "/ui/workers" };
    for (const colorScheme of ["light", "dark"]) {
      const page = await open(daemon, { colorScheme, viewport: { width: 1160, height: 600 } });
      for (const [name, path] of Object.entries(shots)) {
        await page.visit(path);
        const image = await page.screenshot({ animations: "disabled" });
        assert.ok(image.length > 10_000 && image.length < 150_000, `${name}: ${image.length} bytes`);
        if (process.env.SCREENSHOTS) await writeFile(join(process.env.SCREENSHOTS, `${name}-${colorScheme}.png`), image);
      }
      assert.deepEqual(page.complaints, []);
      await page.context().close();
    }
  } finally {
    await daemon.stop();
  }
});
