// Ask the model of this folder with Node; node_modules/ has all that is needed, and no network is.
//
//   node predict.mjs                     check the golden rows, and time a prediction
//   node predict.mjs --form              asks for the inputs, one by one
//   node predict.mjs '{"age": 41, …}'    answers a row, or a list of rows; "-" reads them from standard input
//   node predict.mjs --json …            the same as JSON
//
// Exit status 1: a golden row is not answered as expected. 2: what was given cannot be answered.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import ort from "onnxruntime-node";
import "./model.js";

const { slipway } = globalThis;
const CALLS = 2000;
const file = (name) => fileURLToPath(new URL(`./bundle/${name}`, import.meta.url));
const json = (name) => JSON.parse(readFileSync(file(name), "utf8"));

async function main() {
  const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: { form: { type: "boolean" }, json: { type: "boolean" } },
  });
  const contract = json("contract.json");
  const model = readFileSync(file("model.onnx"));
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  if (options.form) return show(await slipway.answers(session, contract, [await ask(contract)], ort.Tensor), options.json, false);
  if (positionals.length) {
    const given = JSON.parse(positionals[0] === "-" ? readFileSync(0, "utf8") : positionals[0]);
    const many = Array.isArray(given) && given.length > 0 && typeof given[0] === "object" && given[0] !== null;
    return show(await slipway.answers(session, contract, many ? given : [given], ort.Tensor), options.json, many);
  }
  const found = {
    runtime: `Node ${process.version.slice(1)}, onnxruntime-node ${ort.env.versions?.node ?? ort.env.versions?.common}`,
    model_bytes: model.length,
    ...(await slipway.check(session, contract, json("golden.json"), ort.Tensor, CALLS)),
  };
  if (options.json) {
    console.log(JSON.stringify(found));
  } else {
    console.log(`${found.runtime}, model of ${found.model_bytes.toLocaleString("en")} bytes`);
    console.log(`${found.failed || `${found.golden_rows} golden rows are answered as expected`}; largest difference ${found.largest_difference.toPrecision(2)}`);
    console.log(`median of ${CALLS} single predictions: ${(found.median_ms * 1000).toFixed(0)} µs`);
  }
  return found.failed ? 1 : 0;
}

function show(found, asJson, many) {
  if (asJson) {
    console.log(JSON.stringify(many ? found : found[0]));
    return 0;
  }
  for (const one of found) {
    console.log(one.label ?? Number(one.value.toPrecision(6)));
    for (const [name, value] of Object.entries(one.probabilities ?? {})) {
      console.log(`  ${name.padEnd(20)} ${(value * 100).toFixed(1).padStart(5)}%  ${"█".repeat(Math.round(value * 30))}`);
    }
  }
  return 0;
}

async function ask(contract) {
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const lines = terminal[Symbol.asyncIterator]();
  const row = {};
  console.log(`Enter takes the value in brackets${contract.inputs.some((column) => column.nullable) ? "; null means none" : ""}.`);
  for (const column of contract.inputs) {
    while (!Object.hasOwn(row, column.name)) {
      process.stdout.write(`${column.name}, ${slipway.allowed(column)} [${JSON.stringify(column.example)}]: `);
      const { value: line, done } = await lines.next();
      if (done) throw new slipway.Refused("the inputs ended early");
      try {
        const value = line.trim() === "" ? column.example : slipway.fromText(column, line.trim());
        slipway.read(contract, column, value);
        row[column.name] = value;
      } catch (error) {
        console.log(`  ${error.message}`);
      }
    }
  }
  terminal.close();
  return row;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof slipway.Refused) && !(error instanceof SyntaxError) && !String(error.code).startsWith("ERR_PARSE_ARGS")) throw error;
  console.error(`error: ${error.message}`);
  process.exitCode = 2;
}
