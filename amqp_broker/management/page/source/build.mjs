// Builds the page: node build.mjs NODE_MODULES OUTPUT. Run by `make page`.
//
// The names of the script and the style hold the hash of their content. The HTML says the hash of all sources, which a
// test compares with the sources that are there.
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const [modules, output] = process.argv.slice(2).map((path) => resolve(path));
const { buildSync } = createRequire(join(modules, "index.js"))("esbuild");

const sha256 = (content) => createHash("sha256").update(content).digest("hex");

/** The hash of all sources: of each its path and its content, in the order of their paths. */
function hashOfSources() {
  const files = readdirSync(here, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(here.length + 1).replaceAll("\\", "/"))
    .sort();
  return sha256(files.map((name) => `${name} ${sha256(readFileSync(join(here, name)))}\n`).join(""));
}

const built = buildSync({
  entryPoints: [join(here, "src/page.jsx"), join(here, "src/page.css")],
  outdir: output,
  bundle: true,
  minify: true,
  write: false,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  nodePaths: [modules],
  legalComments: "none",
  logLevel: "warning",
});

rmSync(output, { recursive: true, force: true });
mkdirSync(output, { recursive: true });
let html = readFileSync(join(here, "src/index.html"), "utf8");
let total = 0;
const emit = (name, content) => {
  writeFileSync(join(output, name), content);
  total += Buffer.byteLength(content);
};
const icon = readFileSync(join(here, "src/icon.svg"));
for (const [name, content] of [["icon.svg", icon], ...built.outputFiles.map((file) => [basename(file.path), file.contents])]) {
  const extension = extname(name);
  const hashed = `${basename(name, extension)}-${sha256(content).slice(0, 12)}${extension}`;
  html = html.replaceAll(`/assets/${name}`, `/assets/${hashed}`);
  emit(hashed, content);
}
emit("preact-LICENSE.txt", readFileSync(join(modules, "preact/LICENSE"))); // its code is in the script
emit("index.html", html.replace("HASH_OF_SOURCES", hashOfSources()));
console.log(`the page is built: ${Math.round(total / 1000)} kB in ${output}`);
