// Build of the two files of the package, and of the one that the server answers with. Their bytes follow from the sources
// and the locked version of esbuild alone, so that a test can hold the committed file to them.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const SERVED = "../../src/midstream/serving/browser/midstream.js";
const shared = { entryPoints: ["src/index.ts"], bundle: true, minify: true, target: "es2020", charset: "utf8", legalComments: "none" };
const outfile = process.argv[2] ?? SERVED;

await build({ ...shared, format: "esm", outfile: "dist/midstream.mjs" });
for (const file of ["dist/midstream.js", outfile]) {
  await build({ ...shared, format: "iife", globalName: "midstream", outfile: file });
}
const content = readFileSync(outfile);
console.log(`${content.length} bytes, ${gzipSync(content, { level: 9 }).length} compressed`);
